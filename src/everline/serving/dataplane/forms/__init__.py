"""The forms in which an endpoint is asked and answers; each is read into an `Ask` and written from an `Answer`.

- `open_inference`: Open Inference Protocol v2 in JSON; `tensors`: its binary tensor extension
- `invocations`: MLflow's `/invocations`; `csv`: the same as text/csv
- `records`: plain objects, one per row

Nothing here knows of models or sockets.
"""
