"""FastAPI as its tutorial has it, with scikit-learn: pydantic rows, a thread per request."""

import os

import joblib
import pandas as pd
from fastapi import FastAPI, Request

model = joblib.load(os.environ["BENCH_MODEL"])
app = FastAPI()


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/predict")
async def predict(request: Request) -> dict[str, list[float]]:
    rows = await request.json()
    frame = pd.DataFrame(rows if isinstance(rows, list) else [rows])
    return {"probability": model.predict_proba(frame)[:, 1].tolist()}
