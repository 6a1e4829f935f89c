"""A thousand rows in one request: JSON and binary tensors, beside the fastest way to ask the model in process."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import load, table
from benchmarks.serving.load import Measured
from benchmarks.serving.models import ROWS, Trained
from benchmarks.serving.servers import (
    BentoML,
    Everline,
    FastapiOnnx,
    FastapiSklearn,
    LitServe,
    MLflow,
    MLServer,
    RayServe,
    Row,
    Running,
    Server,
)
from everline.models.signature import check_columns

CONNECTIONS = 4
_SETTLE_S = 5.0


class EverlineBinary(Everline):
    """Everline, asked with binary tensors and answered with them."""

    name = "Everline, binary tensors"
    how = "Open Inference Protocol, binary both ways"
    predict = "/v2/models/flight-delay/infer"
    header_length = 0

    def body(self, rows: list[Row]) -> bytes:
        inputs: list[dict[str, Any]] = []
        raw: list[bytes] = []
        for field in self.trained.package.manifest.signature.inputs:
            values = [row[field.name] for row in rows]
            if str(field.type) == "string":
                texts = [value.encode() for value in values]
                raw.append(b"".join(len(text).to_bytes(4, "little") + text for text in texts))
                datatype = "BYTES"
            elif str(field.type) == "long":
                raw.append(np.array(values, dtype=np.int64).tobytes())
                datatype = "INT64"
            else:
                raw.append(np.array([np.nan if v is None else v for v in values], dtype=np.float64).tobytes())
                datatype = "FP64"
            size = {"binary_data_size": len(raw[-1])}
            inputs.append({"name": field.name, "datatype": datatype, "shape": [len(rows)], "parameters": size})
        head = json.dumps({"parameters": {"binary_data_output": True}, "inputs": inputs}).encode()
        self.header_length = len(head)
        return head + b"".join(raw)

    def ask(self, body: bytes) -> bytes:
        headers = {"inference-header-content-length": str(self.header_length)}
        request = urllib.request.Request(self.url + self.predict, body, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            content: bytes = answer.read()
            return content


def in_process(trained: Trained) -> dict[str, float]:
    """Rows per second of each runtime in this process, by the fastest of several calls."""
    predictor = trained.package.load()
    names = [field.name for field in predictor.signature.inputs]
    call = check_columns(predictor.signature, {name: [row[name] for row in trained.rows] for name in names})
    rates = {}
    for runtime in predictor.runtimes:
        times = []
        for _ in range(30):
            started = time.perf_counter()
            predictor.predict_checked(call, runtime)
            times.append(time.perf_counter() - started)
        rates[runtime] = ROWS / min(times)
    return rates


def main() -> None:
    """Both models, a table each, and what was to be reached."""
    for kind in ("hgb", "xgboost"):
        trained = Trained(kind, table.MODELS)
        kinds: tuple[type[Server], ...] = (Everline, EverlineBinary, FastapiSklearn, LitServe, BentoML)
        kinds = (*kinds, MLServer, RayServe, MLflow) if kind == "hgb" else kinds
        kinds = (*kinds, FastapiOnnx) if kind == "hgb" else kinds

        def measure(server: Server, running: Running, where: Path) -> Measured:
            body = server.body(server.trained.rows)
            file = where / "whole"
            file.write_bytes(body)
            length = server.header_length if isinstance(server, EverlineBinary) else None
            url = server.url + server.predict
            server.ask(body)
            time.sleep(_SETTLE_S)  # a framework that answers large requests is imported beside the first answers
            load.ask(url, file, connections=CONNECTIONS, seconds=1, header_length=length, whole=True)
            return load.ask(url, file, connections=CONNECTIONS, header_length=length, whole=True)

        results, wrong = table.in_turn(kinds, trained, measure)
        rates = in_process(trained)
        print(f"{kind}, {ROWS} rows a request, {CONNECTIONS} connections:\n")
        table.show(kinds, results, wrong, unit="rows/s", times=ROWS)
        print("In process:", ", ".join(f"{runtime} {rate:,.0f} rows/s" for runtime, rate in rates.items()))
        fastest = max(rates.values())
        table.reached("JSON: 0.6 of the fastest in process", ROWS * table.per_s(results, Everline.name), 0.6 * fastest)
        binary = ROWS * table.per_s(results, EverlineBinary.name)
        table.reached("binary: 0.8 of the fastest in process", binary, 0.8 * fastest)


if __name__ == "__main__":
    main()
