"""Dagster: `program.py WORKLOAD SIZE SALT LEDGER SECONDS EXECUTOR [RESUME]`, with an instance in DAGSTER_HOME."""

import json
import sys
import time

import dagster as dg
import work


@dg.op(config_schema={"salt": int})
def start(context) -> int:
    return context.op_config["salt"]


@dg.op
def add_one(x: int) -> int:
    return work.add_one(x)


@dg.op(config_schema={"ledger": str, "seconds": float})
def slow(context, x: int) -> int:
    return work.slow(x, context.op_config["ledger"], context.op_config["seconds"])


@dg.op
def join(values: list[int]) -> int:
    return sum(values)


@dg.op(config_schema={"size": int, "ledger": str})
def make(context):
    table = work.table(context.op_config["size"])
    work.mark(context.op_config["ledger"], "returned")
    return table


@dg.op(config_schema={"ledger": str})
def take(context, table) -> float:
    total = work.total(table)
    work.mark(context.op_config["ledger"], "summed")
    return total


def job_of(workload: str, size: int) -> dg.JobDefinition:
    """The job; a function of its arguments, so that the processes of steps can make it again."""

    @dg.graph(name=workload)
    def body():
        if workload == "handover":
            take(make())
        elif workload == "fanout":
            first = start()
            join([add_one.alias(f"add_one_{i}")(first) for i in range(size)])
        else:
            value = start()
            for i in range(size):
                value = (slow if workload == "crash" else add_one).alias(f"step_{i}")(value)

    return body.to_job()


def config_of(workload: str, size: int, salt: int, ledger: str, seconds: float, executor: str) -> dict:
    """What `salt` and the ledger are, for each op that asks."""
    if workload == "handover":
        ops = {"make": {"config": {"size": size, "ledger": ledger}}, "take": {"config": {"ledger": ledger}}}
    else:
        ops = {"start": {"config": {"salt": salt}}}
        if workload == "crash":
            ops |= {f"step_{i}": {"config": {"ledger": ledger, "seconds": seconds}} for i in range(size)}
    return {"ops": ops, "execution": {"config": {executor: {}}}}


def run(workload: str, size: int, salt: int, ledger: str, seconds: float, executor: str, resume: bool) -> None:
    """Run a job, or go on with the newest run of it, which nobody else would ever call failed."""
    job = dg.build_reconstructable_job("program", "job_of", (workload, size), reconstructor_working_directory=".")
    config = config_of(workload, size, salt, ledger, seconds, executor)
    with dg.DagsterInstance.get() as instance:
        options = None
        if resume:
            killed = instance.get_runs(limit=1)[0]
            instance.report_run_failed(killed)
            options = dg.ReexecutionOptions.from_failure(killed.run_id, instance)
        dg.execute_job(job, instance, run_config=config, reexecution_options=options, raise_on_error=True)


if __name__ == "__main__":
    asked, many, first, book, pause, where, *more = sys.argv[1:]
    began = time.perf_counter()
    if asked == "build":
        job_of("graph", int(many))
    else:
        run(asked, int(many), int(first), book, float(pause), where, bool(more))
    print(json.dumps({"seconds": time.perf_counter() - began}))
