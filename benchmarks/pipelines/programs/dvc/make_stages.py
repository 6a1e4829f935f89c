"""Write `dvc.yaml` for a workload: `make_stages.py WORKLOAD SIZE SALT`."""

import json
import sys
from pathlib import Path


def stages_of(workload: str, size: int, salt: int) -> dict:
    run = f"{sys.executable} program.py"
    if workload == "handover":
        return {
            "make": {"cmd": f"{run} make {size} table.arrow", "outs": ["table.arrow"]},
            "take": {"cmd": f"{run} take table.arrow total", "deps": ["table.arrow"], "outs": ["total"]},
        }
    if workload == "fanout":
        each = {f"each_{i}": {"cmd": f"{run} first {salt + i} value_{i}", "outs": [f"value_{i}"]} for i in range(size)}
        values = [f"value_{i}" for i in range(size)]
        return {**each, "join": {"cmd": f"{run} join {size} sum", "deps": values, "outs": ["sum"]}}
    word = "slow" if workload == "crash" else "add"
    stages = {"start": {"cmd": f"{run} first {salt} value_0", "outs": ["value_0"]}}
    for i in range(1, size if workload != "crash" else size + 1):
        before, after = f"value_{i - 1}", f"value_{i}"
        stages[f"step_{i}"] = {"cmd": f"{run} {word} {before} {after}", "deps": [before], "outs": [after]}
    return stages


if __name__ == "__main__":
    Path("dvc.yaml").write_text(json.dumps({"stages": stages_of(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))}))
