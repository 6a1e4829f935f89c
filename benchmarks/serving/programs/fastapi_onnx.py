"""FastAPI with ONNX Runtime, written by hand for speed: no validation, one thread, no pandas."""

import json
import os

import numpy as np
import onnxruntime
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["BENCH_ONNX"], options)
kinds = {"tensor(string)": object, "tensor(double)": np.float64, "tensor(int64)": np.int64}
inputs = [(one.name, kinds.get(one.type, np.float32), len(one.shape)) for one in session.get_inputs()]
names = json.loads(os.environ["BENCH_NAMES"])
app = FastAPI()


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/predict")
async def predict(request: Request) -> Response:
    rows = json.loads(await request.body())
    rows = rows if isinstance(rows, list) else [rows]
    columns = {}
    for (name, kind, axes), column in zip(inputs, names, strict=True):
        values = [row[column] for row in rows]
        if kind is not object:
            values = [np.nan if value is None else value for value in values]
        array = np.array(values, dtype=kind)
        columns[name] = array.reshape(-1, 1) if axes == 2 else array
    outputs = session.run(None, columns)
    said = max(outputs, key=lambda one: one.dtype.kind == "f")
    probability = said[:, 1] if said.ndim == 2 else said
    return Response(json.dumps({"probability": probability.tolist()}), media_type="application/json")
