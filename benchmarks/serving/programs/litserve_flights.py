"""LitServe with dynamic batching."""

import os

import joblib
import litserve
import pandas as pd


class Flights(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    def batch(self, inputs):
        return inputs

    def predict(self, batch):
        many = [rows if isinstance(rows, list) else [rows] for rows in batch]
        frame = pd.DataFrame([row for rows in many for row in rows])
        said = self.model.predict_proba(frame)[:, 1].tolist()
        answers = []
        for rows in many:
            answers.append(said[: len(rows)])
            said = said[len(rows) :]
        return answers

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"probability": output}


if __name__ == "__main__":
    api = Flights(max_batch_size=64, batch_timeout=0.002)
    workers = int(os.environ["BENCH_WORKERS"])
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        generate_client_file=False,
        num_api_servers=workers,
        log_level="warning",
        access_log=False,
    )
