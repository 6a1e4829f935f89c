"""The serving process: answers predictions, with no database, no server imports, and nothing unverified in memory.

- `http/`: sockets to requests, replies to sockets; `app`: which address is what
- `grpc/`: the same over gRPC, in front of the same application
- `forms/`: the Open Inference Protocol, MLflow's invocations, plain records; `plan`: columns to arrays
- `routing`: which revision answers a request; `lanes`: its requests gathered, asked together, logged, answered
- `process`: put together and run; `plane`: one answering process; `supervisor`, `worker`, `snapshots`: several of them
- `following`: follows the desired state; `tables`: applies it; `loading`: downloads, verifies and loads revisions
- `store`: what is kept on local disk; `control_plane`: the HTTP client
- `log/`: raw segments before the answer leaves, Parquet and shipping after it
- `metrics`: counters, latencies, Prometheus
"""
