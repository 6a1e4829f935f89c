"""Doing recorded work again and comparing."""
