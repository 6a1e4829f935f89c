"""The Open Inference Protocol over gRPC, for callers that speak it; needs the extra `grpc`.

- `messages`: the protocol's messages
- `form`: a question and an answer in them
- `server`: the service, in front of the same application that answers over HTTP
"""
