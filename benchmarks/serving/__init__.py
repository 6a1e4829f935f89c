"""Endpoints under load, beside the tools that serve models: same models, same requests, same load tool."""
