"""The command line, one module a word."""
