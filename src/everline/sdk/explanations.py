"""Explanations through the client: mixtures of two runs are run here, the shares worked out by the server.

client.explanations.explain("0192f5c47d2e…", "0192f5c4801a…", metric="auc").shares
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from everline.loader import load
from everline.reproduction.explaining import coalitions
from everline.reproduction.explaining.attribution import Coalition
from everline.reproduction.explaining.types import Bisection, CoalitionRun, Explain, Explanation, Finding, Method, Plan
from everline.sdk.client import Client
from everline.sdk.reproduction import Where

if TYPE_CHECKING:
    from everline.sdk.mixing import Mixer

Watch = Callable[[str], None]
SEEDS = 5
TIMEOUT_S = 24 * 3600.0


class ExplanationsApi:
    """Ask why a metric of two runs is not the same."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def plan(
        self,
        before: str,
        after: str,
        *,
        metric: str | None = None,
        method: Method = Method.EXACT,
        seeds: int = SEEDS,
    ) -> Plan:
        """Say what differs between two runs or models, and what it will cost to split the change; nothing is run.

        Args:
            before, after: uids of runs, or models as `name`, `name/version` or `name@alias`.
            metric: None takes log_loss, auc, rmse or accuracy, whichever both have, else the first by name.

        Raises:
            NotFoundError: there is no such run or model.
            InvalidInputError: the runs do not both have the metric.
        """
        uids = [self._client.reproduction.run_of(target) for target in (before, after)]
        query = {"before": uids[0], "after": uids[1], "metric": metric, "method": method.value, "seeds": seeds}
        return self._client.call("GET", "/explanations/plan", query=query, returns=Plan)

    def explain(
        self,
        before: str,
        after: str,
        *,
        metric: str | None = None,
        method: Method = Method.EXACT,
        seeds: int = SEEDS,
        anyway: bool = False,
        environment: Where = Where.AUTO,
        processes: int | None = None,
        timeout_s: float = TIMEOUT_S,
        planned: Callable[[Plan], None] = lambda plan: None,
        watch: Watch = lambda message: None,
    ) -> Explanation:
        """Split the change of a metric between two runs among what differs, by running mixtures of them.

        Args:
            before, after, metric: as in `plan`.
            method: `exact` runs every mixture, and turns to sampled orders beyond five parts; `quick` exchanges one
                part after the other, once.
            seeds: over how many to average; the recorded ones are among them.
            anyway: split also a change that other seeds make as well.
            environment: as in `reproduce`.
            processes: how many mixtures run at the same time; None takes one for each usable core.
            timeout_s: most seconds of one process.
            planned: is told the plan before anything runs.
            watch: is told what happens, in short sentences.

        Returns:
            The shares, which add up to the change; or why there are none. Never an exception for what a run is not.

        Raises:
            NotFoundError: there is no such run or model.
            InvalidInputError: the runs do not both have the metric.
        """
        plan = self.plan(before, after, metric=metric, method=method, seeds=seeds)
        planned(plan)
        asked = Explain(
            before=plan.before, after=plan.after, metric=plan.metric, method=method, seeds=seeds, anyway=anyway
        )
        if plan.finding is not None or (not anyway and (plan.labels_differ or plan.before_value == plan.after_value)):
            return self._ask(asked, [])
        mixer = load("everline.sdk.mixing").Mixer(
            self._client,
            plan,
            environment=environment,
            processes=processes or usable_cores(),
            timeout_s=timeout_s,
            watch=watch,
        )
        with mixer:
            runs = self._run_all(mixer, plan, asked)
        return self._ask(asked, runs)

    def bisect(
        self,
        metric: str,
        before: str,
        after: str,
        *,
        over: str | None = None,
        repository: Path | None = None,
        environment: Where = Where.AUTO,
        timeout_s: float = TIMEOUT_S,
        watch: Watch = lambda message: None,
    ) -> Bisection:
        """Find the first commit or dataset version that moved a metric, all else as in the earlier run.

        Whatever comes after it is taken to have moved too; then the logarithm of their number is tried.

        Args:
            before, after: runs or models, as in `plan`: where the metric was as it should be, and where it has moved.
            over: `code` or a dataset's name; None takes what differs if it is one of them.
            repository: the project's folder in a clone with the commits; None takes the current folder.
            environment, timeout_s, watch: as in `explain`; for each trial.

        Raises:
            NotFoundError: there is no such run or model.
            InvalidInputError: there is no line of commits or versions between the two, or more than one.
        """
        plan = self.plan(before, after, metric=metric)
        bisector = load("everline.sdk.bisecting").Bisector(self._client, plan, timeout_s=timeout_s, watch=watch)
        found: Bisection = bisector.run(over=over, repository=repository, environment=environment)
        return found

    def _run_all(self, mixer: Mixer, plan: Plan, asked: Explain) -> list[CoalitionRun]:
        """Run both ends first, to see whether there is anything to split; then what is still needed, until all is."""
        done: list[CoalitionRun] = []
        wanted: list[Coalition] = [frozenset(), frozenset(plan.parts)]
        while wanted:
            done += mixer.run(_jobs(wanted, plan))
            answer = self._ask(asked, done, ends_only=True)
            if answer.finding is not Finding.EXPLAINED:
                break
            failing = {frozenset(one.taken) for one in answer.runs if one.problem is not None}
            known = {frozenset(one.taken) for one in done}
            needed = coalitions.needed(plan.method, plan.parts, failing.__contains__)
            wanted = [coalition for coalition in needed if coalition not in known]
        return done

    def _ask(self, asked: Explain, runs: Sequence[CoalitionRun], *, ends_only: bool = False) -> Explanation:
        body = Explain(
            before=asked.before,
            after=asked.after,
            metric=asked.metric,
            method=asked.method,
            seeds=asked.seeds,
            anyway=asked.anyway,
            runs=list(runs),
            ends_only=ends_only,
            certify=not ends_only,
        )
        return self._client.call("POST", "/explanations", body=body, returns=Explanation)


def _jobs(wanted: Iterable[Coalition], plan: Plan) -> list[CoalitionRun]:
    seeds: Sequence[int | None] = plan.seeds or (None,)
    unique = dict.fromkeys(wanted)  # with no parts both ends are the same
    return [CoalitionRun(taken=tuple(sorted(taken)), seed=seed) for taken in unique for seed in seeds]


def usable_cores() -> int:
    """Processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
