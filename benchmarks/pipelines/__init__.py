"""Pipelines, beside the tools that run them: the same steps, each tool as its documentation recommends."""
