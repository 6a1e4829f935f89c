"""Values of explanations: what differs between two runs, the work to be done, and the shares. Light."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from everline.pipelines.types import ValueRef

EVALUATION_SET = "evaluation set"
SEED = "seed"


class Finding(StrEnum):
    """What an explanation comes to."""

    EXPLAINED = "explained"
    """The shares add up to the change."""
    WITHIN_NOISE = "within noise"
    """Other seeds move the metric as much as the change; nothing was split."""
    NO_CHANGE = "no change"
    """The metric is the same."""
    NOT_COMPARABLE = "not comparable"
    """The two numbers do not measure the same thing, or the parts cannot be exchanged."""
    UNVERIFIABLE = "unverifiable"
    """A run cannot be done again from its record, or does not come out as recorded."""


class Method(StrEnum):
    """How the change is split."""

    EXACT = "exact"
    """Every coalition is run."""
    SAMPLED = "sampled"
    """Random orders of exchanging one part after the other; for more than five parts."""
    QUICK = "quick"
    """One such order: fewest runs, and shares that depend on the order where parts interact."""


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a run that is not the same in the other.

    Attributes:
        name: `code`, `environment`, `data NAME`, `parameter NAME` or `evaluation set`.
        before, after: what it was and what it became, in one line each.
        changes: what changed inside of it, one sentence each, at most 20.
        idle: why it cannot have moved the metric, or None.
    """

    name: str
    before: str
    after: str
    changes: tuple[str, ...] = ()
    idle: str | None = None


class MetricStep(msgspec.Struct, frozen=True, kw_only=True):
    """The step whose result has the metric, and the tables that it measured on.

    Attributes:
        before, after: its tables by parameter, in the earlier and the later run; empty if it takes none that a step
            made, so that the evaluation set cannot be exchanged on its own.
    """

    name: str
    before: dict[str, ValueRef] = {}
    after: dict[str, ValueRef] = {}


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What an explanation will cost at most.

    Attributes:
        coalitions: how many different mixtures of the two runs.
        executions: steps to be run for all of them with all seeds, those left out that are kept already.
        seconds: of work, by what the steps took when they were recorded; several processes share it.
    """

    coalitions: int
    executions: int
    seconds: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done to explain a change.

    Attributes:
        before, after: uids of the runs.
        metric_step: None if there is a problem.
        method: what was asked for, or `sampled` where the parts are too many for `exact`.
        parts: names of the components that are exchanged, in the order in which `quick` exchanges them.
        seeds: to average over, the recorded ones first; empty if the pipeline takes no seed.
        labels_differ: both were measured on the same rows with another outcome, so the numbers measure two things.
        problem: why nothing can be split, in one sentence; then `finding` says what that comes to.
    """

    before: str
    after: str
    metric: str
    before_value: float | None
    after_value: float | None
    method: Method = Method.EXACT
    entry: str = ""
    components: tuple[Component, ...] = ()
    metric_step: MetricStep | None = None
    parts: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    estimate: Estimate | None = None
    labels_differ: bool = False
    before_seed: int | None = None
    after_seed: int | None = None
    problem: str | None = None
    finding: Finding | None = None


class CoalitionRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One mixture of the two runs with one seed, done.

    Attributes:
        taken: names of the components that were taken from the later run.
        run: its uid; None if none was recorded.
        problem: why it did not come to its end.
    """

    taken: tuple[str, ...]
    seed: int | None = None
    run: str | None = None
    problem: str | None = None


class Explain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that asks for a change to be split by what was run.

    Attributes:
        certify: False only works it out.
        anyway: split the change even if other seeds move the metric as much.
        ends_only: say only what the two runs themselves say with all seeds: whether there is anything to split.
    """

    before: str
    after: str
    metric: str
    method: Method = Method.EXACT
    seeds: int = 5
    runs: list[CoalitionRun] = []
    certify: bool = True
    anyway: bool = False
    ends_only: bool = False


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the change one part caused.

    Attributes:
        components: names; several if they could not be exchanged apart.
        value: in the unit of the metric; the values of all shares add up to the change.
        low, high: 95 % interval over seeds, and over orders where these were sampled.
        together: why its components could not be told apart, or None.
    """

    components: tuple[str, ...]
    value: float
    low: float
    high: float
    together: str | None = None


class Interaction(msgspec.Struct, frozen=True, kw_only=True):
    """Two parts that do more, or less, together than each alone; it is part of both shares, half in each."""

    first: str
    second: str
    value: float
    low: float
    high: float


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a metric of two runs is not the same.

    Attributes:
        change: `after_value - before_value`.
        shares: the evaluation set first, then the exchanged parts, the largest first, then the seed.
        noise: half of the range in which two runs that differ by their seeds alone differ in 95 % of cases.
        interactions: pairs whose interaction is large: its interval excludes 0, and it is a tenth of the change.
        runs: what was run for it.
        certificate: uid of the signed statement, or None if none was asked for.
    """

    before: str
    after: str
    metric: str
    before_value: float | None
    after_value: float | None
    change: float | None
    finding: Finding
    reason: str
    method: Method
    components: tuple[Component, ...] = ()
    shares: tuple[Share, ...] = ()
    noise: float | None = None
    interactions: tuple[Interaction, ...] = ()
    seeds: tuple[int, ...] = ()
    runs: tuple[CoalitionRun, ...] = ()
    certificate: str | None = None


def cell_name(step: str, cell: str) -> str:
    """What the metric's step is called where it measures on the evaluation set of the run `before` or `after`."""
    return f"{step}.on-{cell}"


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One commit or dataset version that was tried.

    Attributes:
        name: the commit, or the dataset version as `name@number`.
        title: the commit's subject line, or the version's labels.
        value: the metric there; None if it did not run.
        moved: whether that is nearer to the later end than to the earlier one.
        run: its uid, or None if it was not recorded.
        problem: why it has no value.
    """

    name: str
    title: str = ""
    value: float | None = None
    moved: bool | None = None
    run: str | None = None
    problem: str | None = None


class Bisection(msgspec.Struct, frozen=True, kw_only=True):
    """Where a metric moved.

    Attributes:
        over: `code` or `data NAME`; everything else is as in the earlier run.
        first: the first commit or version with the moved metric; None if it did not move along the way.
        among: where those between did not run, all that may be the first, in order; else only `first`.
        candidates: how many commits or versions lie between, the last one with them.
        probes: what was tried, in the order of trial; the first one is the later end.
    """

    metric: str
    before: str
    after: str
    over: str
    before_value: float
    first: Probe | None
    among: tuple[Probe, ...] = ()
    candidates: int = 0
    probes: tuple[Probe, ...] = ()
    reason: str = ""
