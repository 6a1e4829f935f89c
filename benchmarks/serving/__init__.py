"""Endpoints under load, beside the tools that serve models: the same trained models, the same requests, the same load tool."""
