"""What shapes a graph beside plain calls of steps: fan-out, branches, parts that depend on results, people, secrets.

    scores = el.map(score, stores, table=table)
    chosen = el.when(is_better(scores), lambda: keep(scores), lambda: retrain(table))
    answer = el.approval("Ship it?", role="approver", show=chosen)

Outside of a pipeline they do what plain Python would, so that functions which use them can be tested like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from everline.access.types import Role
from everline.errors import InvalidInputError
from everline.ids import check_name
from everline.pipelines.annotations import fits, is_table, item_of, show, union_of
from everline.pipelines.graph import (
    Choice,
    Condition,
    DatasetRef,
    Expansion,
    Graph,
    Question,
    Ref,
    check_argument,
    current,
)
from everline.pipelines.step import Pipeline, Step
from everline.pipelines.values import Approval, Model, Secret

_QUESTION_CHARS_MAX = 2_000
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def map_(target: Step[Any, Any] | Pipeline, items: Any, /, **common: Any) -> Any:
    """Call a step or pipeline once for each item of a list; the calls run at the same time.

    Args:
        target: its first parameter that is not in `common` gets the item.
        items: a list, which may hold results of steps; or a result of type `list[…]`, whose length is not known yet.
        common: what every call gets.

    Returns:
        The results in the order of the items: as a list, or as the one result of type `list[…]` where the length is
        not known yet. Both go where a list is taken.

    Raises:
        InvalidInputError: `items` is no list, or does not fit the parameter.
    """
    graph = current()
    parameter = _over(target, common)
    if graph is None:
        return [_plainly(target)(**{parameter: item}, **common) for item in items]
    if isinstance(items, list | tuple):
        return _each(graph, target, parameter, list(items), common)
    title = f"el.map of {target.__name__!r}"  # type: ignore[union-attr]
    item = item_of(items.type) if isinstance(items, Ref) else None
    if item is None:
        kind = show(items.type) if isinstance(items, Ref) else type(items).__name__
        raise InvalidInputError(
            f"{title} takes a list, but was given {items if isinstance(items, Ref) else 'a value'} of type {kind}.",
            hint="Map over a list, or over the result of a step that says `-> list[…]`.",
            field=parameter,
        )
    wanted = _hints(target)[parameter]
    if not fits(item, wanted):
        raise InvalidInputError(
            f"{title} takes {parameter}: {show(wanted)}, but the items of {items} are {show(item)}.",
            hint="Change one of the two annotations, or put a step between them.",
            field=parameter,
        )
    for name, value in common.items():
        check_argument(title, name, _hints(target).get(name, Any), value)
    node = Expansion(
        graph.named(_name(target)), len(graph.nodes), {**common, parameter: items}, graph.conditions, target=target,
        over=parameter,
    )  # fmt: skip
    graph.put(node)
    gives = _hints(target).get("return", Any)
    return Ref(node, 0, list[gives] if gives is not Any else list)  # type: ignore[valid-type]


def _each(graph: Graph, target: Any, parameter: str, items: list[Any], common: dict[str, Any]) -> list[Any]:
    name = graph.named(_name(target))
    return [call_item(graph, target, {**common, parameter: item}, f"{name}[{i}]") for i, item in enumerate(items)]


def call_item(graph: Graph, target: Any, inputs: dict[str, Any], name: str) -> Any:
    """Call a step or pipeline for one item of a fan-out, under the item's own name."""
    if isinstance(target, Step):
        return graph.add(target.spec, (), inputs, name=name)
    with graph.within(name):
        return target.function(**inputs)


def when(condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any] | None = None, /) -> Any:
    """Run one of two branches, by a result of type bool.

    Args:
        condition: a result, or a plain bool, which decides while the graph is built.
        then, otherwise: functions without parameters that call steps. Both are called while the graph is built, so
            that both are checked; the steps of the branch that is not taken are skipped.

    Returns:
        The result of the branch that is taken; None for a branch that is not there.

    Raises:
        InvalidInputError: the condition is no bool.
    """
    graph = current()
    if graph is None or isinstance(condition, bool):
        return then() if condition else (otherwise() if otherwise else None)
    if not isinstance(condition, Ref) or not fits(condition.type, bool):
        kind = show(condition.type) if isinstance(condition, Ref) else type(condition).__name__
        raise InvalidInputError(
            f"el.when takes a condition of type bool, but was given {condition!s:.80} of type {kind}.",
            hint="Let a step answer the question: `def is_better(…) -> bool`.",
            field="condition",
        )
    with graph.under(Condition(condition, True)):
        first = then()
    with graph.under(Condition(condition, False)):
        second = otherwise() if otherwise else None
    node = Choice(
        graph.named("when"), len(graph.nodes), {"condition": condition, "then": first, "otherwise": second},
        graph.conditions,
    )  # fmt: skip
    graph.put(node)
    return Ref(node, 0, union_of(_type(first), _type(second)))


def dynamic(target: Pipeline, /, **inputs: Any) -> Any:
    """Call a pipeline when the values of its parameters are known, so that it may decide on them.

    Inside of the pipeline, parameters that plain values fit are those values; tables, models, arrays and paths are
    still placeholders. It may call itself with `el.dynamic` again: a loop ends when it does not.

    Args:
        inputs: by parameter; results of steps among them.
    """
    if not isinstance(target, Pipeline):
        raise InvalidInputError(
            f"el.dynamic takes a pipeline, not {target!r:.80}.", hint="Decorate the function with `@el.pipeline`."
        )
    graph = current()
    if graph is None:
        return target.function(**inputs)
    unknown = sorted(set(inputs) - set(target.signature.parameters))
    missing = [name for name, p in target.signature.parameters.items() if p.default is p.empty and name not in inputs]
    if unknown or missing:
        raise InvalidInputError(
            f"Pipeline {target.name!r} has no parameter {unknown[0]!r}."
            if unknown
            else f"Pipeline {target.name!r} needs a value for its parameter {missing[0]!r}.",
            field=(unknown or missing)[0],
        )
    for name, value in inputs.items():
        check_argument(f"Pipeline {target.name!r}", name, target.hints.get(name, Any), value)
    node = Expansion(graph.named(target.name), len(graph.nodes), inputs, graph.conditions, target=target, over=None)
    graph.put(node)
    return Ref(node, 0, target.hints.get("return", Any))


def approval(
    question: str,
    /,
    *,
    role: str = "approver",
    show: Any = None,
    name: str = "approval",
    required: bool = True,
    others: bool = False,
) -> Approval:
    """Ask a person, and go on when they have answered: the run waits for days if it must, and holds no process.

    Args:
        question: what to decide, 1 to 2,000 characters.
        role: who may answer: users with this role in the project.
        show: what the person shall see: a result, or a dict of results. The answer holds for these results alone.
        name: of the step.
        required: a no fails the run; otherwise it is an answer, for `el.when` and steps to go by.
        others: whoever started the run may not answer.

    Returns:
        `el.Approval`.

    Raises:
        InvalidInputError: called outside a pipeline, no such role, or no question.
    """
    graph = current()
    if graph is None:
        raise InvalidInputError(
            "el.approval was called outside a pipeline.", hint="Call it inside a `@el.pipeline` function."
        )
    if role not in set(Role):
        raise InvalidInputError(
            f"There is no role {role!r}.", hint=f"Roles are {', '.join(sorted(Role))}.", field="role"
        )
    if not 1 <= len(question.strip()) <= _QUESTION_CHARS_MAX:
        raise InvalidInputError(
            f"A question has 1 to {_QUESTION_CHARS_MAX} characters, not {len(question)}.", field="question"
        )
    shown = show if isinstance(show, dict) else {} if show is None else {"shown": show}
    node = Question(
        graph.named(check_name(name, field="name")), len(graph.nodes), shown, graph.conditions, text=question,
        role=role, required=required, others=others,
    )  # fmt: skip
    graph.put(node)
    return Ref(node, 0, Approval)  # type: ignore[return-value]


def secret(name: str) -> str:
    """Stand for a secret in a call of a step: it gets the value of an environment variable where it runs.

    The record and the step key have the name alone, never the value, and what the step prints has it blacked out.

    Args:
        name: of the variable.
    """
    if not _VARIABLE.fullmatch(name):
        raise InvalidInputError(
            f"{name[:80]!r} names no secret.", hint="Give the name of an environment variable, such as `API_TOKEN`."
        )
    return Secret(name)  # type: ignore[return-value]


def values_wanted(target: Pipeline, inputs: dict[str, Any]) -> list[str]:
    """The inputs of a dynamic pipeline whose values it needs: results that its parameters do not take by reference."""
    return [
        name
        for name, value in inputs.items()
        if isinstance(value, Ref) and not _by_reference(target.hints.get(name, Any), value)
    ]


def _by_reference(wanted: Any, value: Ref) -> bool:
    kind = value.type if wanted is Any else wanted
    numpy_array = getattr(kind, "__module__", "").startswith("numpy") and getattr(kind, "__name__", "") == "ndarray"
    path = getattr(kind, "__module__", "").startswith("pathlib")
    return bool(is_table(kind) or kind is Model or numpy_array or path)


def _over(target: Any, common: dict[str, Any]) -> str:
    if not isinstance(target, Step | Pipeline):
        raise InvalidInputError(
            f"el.map takes a step or a pipeline, not {target!r:.80}.", hint="Decorate the function with `@el.step`."
        )
    signature = target.spec.signature if isinstance(target, Step) else target.signature
    unknown = sorted(set(common) - set(signature.parameters))
    free = [name for name in signature.parameters if name not in common]
    if unknown or not free:
        raise InvalidInputError(
            f"{target.__name__!r} has no parameter {unknown[0]!r}."  # type: ignore[union-attr]
            if unknown
            else f"{target.__name__!r} has no parameter left for the items.",  # type: ignore[union-attr]
            hint=f"It has {', '.join(signature.parameters) or 'none'}.",
            field=unknown[0] if unknown else None,
        )
    return free[0]


def _hints(target: Any) -> dict[str, Any]:
    hints: dict[str, Any] = target.spec.hints if isinstance(target, Step) else target.hints
    return hints


def _name(target: Any) -> str:
    name: str = target.spec.name if isinstance(target, Step) else target.name
    return name


def _plainly(target: Any) -> Callable[..., Any]:
    function: Callable[..., Any] = target.function
    return function


def _type(value: Any) -> Any:
    if isinstance(value, Ref):
        return value.type
    if isinstance(value, DatasetRef):
        return Any
    return type(value)
