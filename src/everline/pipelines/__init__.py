"""Typed, cached steps and the graphs that join them."""
