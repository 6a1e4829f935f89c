"""Logged models: what a run wrote as a model while it ran, before anybody registers it."""
