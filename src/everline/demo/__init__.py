"""The whole loop on the real flights of 2013, told in chapters."""
