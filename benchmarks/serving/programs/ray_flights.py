"""Ray Serve with dynamic batching."""

import os
import signal
import threading

import joblib
import pandas as pd
import ray
from ray import serve


@serve.deployment(num_replicas=int(os.environ["BENCH_WORKERS"]), max_ongoing_requests=256)
class Flights:
    def __init__(self):
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def answer(self, many):
        frame = pd.DataFrame([row for rows in many for row in rows])
        said = self.model.predict_proba(frame)[:, 1].tolist()
        answers = []
        for rows in many:
            answers.append({"probability": said[: len(rows)]})
            said = said[len(rows) :]
        return answers

    async def __call__(self, request):
        if request.method == "GET":
            return {"ready": True}
        rows = await request.json()
        return await self.answer(rows if isinstance(rows, list) else [rows])


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    serve.run(Flights.bind())
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()
