"""The serving process: answers predictions, with no database, no server imports, and nothing unverified in memory.

- `process`: the composition root, `run(settings, options, listener)`
- `app`: raw ASGI routes, limits, answers; `protocol`: JSON of the Open Inference Protocol and of MLflow
- `routing`: which revision answers a request; `worker`: the one thread in which models answer
- `following`: follows the desired state; `loading`: downloads, verifies and loads revisions
- `store`: what is kept on local disk; `control_plane`: the HTTP client
- `log/`: raw segments before the answer leaves, Parquet and shipping after it
- `metrics`: counters, latencies, Prometheus
"""
