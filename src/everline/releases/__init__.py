"""Bringing a model version to an endpoint, under policy."""
