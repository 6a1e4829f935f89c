"""HTTP/1.1 for the data plane: sockets to requests, replies to sockets, and the limits that keep both small.

- `messages`: what comes in and what goes back
- `connection`: one client's connection, on httptools' parser
- `server`: all connections of a listening socket: time limits, drain

Why not an ASGI server: see docs/adr/0041-http-without-asgi.md.
"""
