"""The demo: the whole loop on the real flights of 2013."""
