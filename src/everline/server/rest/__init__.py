"""The REST faces, one module a word."""
