"""The Python client: one implementation, in-process or over HTTP."""
