"""Kedro: one session's run, in a process that has Kedro loaded; BENCH_WORKLOAD and BENCH_SIZE say which."""

import json
import logging
import time
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd())
logging.disable(logging.INFO)
began = time.perf_counter()
with KedroSession.create(project_path=Path.cwd()) as session:
    session.run()
print(json.dumps({"seconds": time.perf_counter() - began}))
