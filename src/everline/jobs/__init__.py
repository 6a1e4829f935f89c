"""Durable background work in the same database."""
