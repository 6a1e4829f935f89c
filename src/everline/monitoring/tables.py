"""Columns of this slice."""
