"""A policy as people write it: a TOML document with rules, required approvals and its own test cases."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec

from everline.access.types import Role
from everline.errors import InvalidInputError
from everline.governance.cel.program import Program, compile_expression, together
from everline.governance.cel.syntax import CelError
from everline.governance.schemas import SCOPE
from everline.governance.types import CaseResult, Outcome, RuleVerdict
from everline.ids import check_name

SOURCE_BYTES_MAX = 256 * 1024
RULES_MAX = 100
CASES_MAX = 200
ACTIONS = ("release",)
PEOPLE_MAX = 20
DAYS_MAX = 3650
COUNTED_MEANINGS = ("reviewer", "validator", "owner")


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One condition, and the law, standard or business reason that it serves."""

    name: str
    expression: str
    reason: str
    source: str = ""
    """Where that is written: article, paragraph, title of the standard."""


class Approvals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The people whose yes is needed: distinct ones, and never the author."""

    count: int = 1
    roles: list[str] = []
    """Any of these roles lets a person count; empty means everyone who may approve."""
    quorum: dict[str, int] = {}
    """Role -> how many different people must have said yes in it; nobody counts for two roles."""
    meanings: list[str] = []
    """Capacities of which each must be among the yeses, such as validator and owner."""
    valid_days: float | None = None
    """How long a yes counts; None for ever."""
    distinct: bool = True
    not_author: bool = True


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the policy holds; an empty list means everywhere in the project."""

    endpoints: list[str] = []
    models: list[str] = []
    tiers: list[str] = []
    """Risk tiers (`risk.tier` in the evidence); a model whose tier is not known is meant by all of them."""


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts, and what the policy (or one rule of it) must say of them."""

    name: str
    expect: Outcome
    facts: dict[str, Any] = {}
    null: list[str] = []
    """Facts that are null, such as `champion` at a first release: TOML has no null."""
    rule: str | None = None


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole policy."""

    name: str
    title: str
    reason: str
    action: str = "release"
    scope: Scope = Scope()
    rules: list[Rule] = []
    approvals: Approvals | None = None
    pre_determined: str = ""
    """An expression that holds for changes foreseen when the system was assessed; says their class, gates nothing."""
    cases: list[Case] = []


class Compiled(msgspec.Struct, frozen=True):
    """A document whose rules are ready to be judged."""

    document: Document
    programs: list[Program]
    pre_determined: Program | None = None

    def judge(self, facts: Mapping[str, Any]) -> list[RuleVerdict]:
        """Judge every rule."""
        pairs = zip(self.document.rules, self.programs, strict=True)
        return [_judge(rule, program, facts) for rule, program in pairs]

    def applies(self, *, action: str, facts: Mapping[str, Any]) -> bool:
        """Whether the policy speaks of what these facts are about."""
        named = {name: facts.get(name) or {} for name in ("release", "model", "risk")}
        endpoint, model = named["release"].get("endpoint", ""), named["model"].get("name", "")
        tier = named["risk"].get("tier")
        scope = self.document.scope
        return (
            self.document.action == action
            and (not scope.endpoints or endpoint in scope.endpoints)
            and (not scope.models or model in scope.models)
            and (not scope.tiers or tier is None or tier in scope.tiers)
        )

    def run_cases(self) -> list[CaseResult]:
        """Run the policy's own test cases."""
        return [self._run(case) for case in self.document.cases]

    def _run(self, case: Case) -> CaseResult:
        verdicts = self.judge(case.facts | dict.fromkeys(case.null))
        if case.rule is not None:
            verdicts = [verdict for verdict in verdicts if verdict.name == case.rule]
        found = outcome_of(verdicts)
        return CaseResult(
            name=case.name, expected=case.expect, found=found, passed=found is case.expect, rules=verdicts
        )


def outcome_of(rules: list[RuleVerdict]) -> Outcome:
    """The outcome of several rules."""
    return together([clause for rule in rules for clause in rule.clauses])


@functools.lru_cache(maxsize=256)
def compile_document(source: str) -> Compiled:
    """Read and check a policy.

    Raises:
        InvalidInputError: not TOML, a field is missing or misspelt, or an expression is wrong: says where.
    """
    if len(source.encode()) > SOURCE_BYTES_MAX:
        raise InvalidInputError(f"The policy is longer than {SOURCE_BYTES_MAX} bytes.", field="source")
    try:
        document = msgspec.convert(tomllib.loads(source), Document)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"The policy is not TOML: {error}.", field="source") from None
    except RecursionError:
        raise InvalidInputError("The policy is nested too deeply.", field="source") from None
    except msgspec.ValidationError as error:
        raise InvalidInputError(
            f"The policy does not fit: {error}.",
            hint="Its parts are name, title, reason, action, scope, rules, approvals, pre_determined and cases.",
            field="source",
        ) from None
    _check(document)
    foreseen = _compile("pre_determined", document.pre_determined) if document.pre_determined.strip() else None
    return Compiled(document, [_compile(rule.name, rule.expression) for rule in document.rules], foreseen)


def _check(document: Document) -> None:
    check_name(document.name)
    if document.action not in ACTIONS:
        raise InvalidInputError(f"There is no action {document.action!r}.", hint="Known is: release.", field="action")
    if not document.title.strip() or not document.reason.strip():
        raise InvalidInputError(
            "A policy has a title and a reason: the law, standard or business rule that it serves.", field="reason"
        )
    if not document.rules and document.approvals is None:
        raise InvalidInputError("A policy has at least one rule, or asks for approvals.", field="rules")
    if len(document.rules) > RULES_MAX or len(document.cases) > CASES_MAX:
        raise InvalidInputError(f"A policy has at most {RULES_MAX} rules and {CASES_MAX} cases.", field="rules")
    names = [rule.name for rule in document.rules]
    for rule in document.rules:
        check_name(rule.name, field="rules.name")
        if names.count(rule.name) > 1:
            raise InvalidInputError(f"Two rules are named {rule.name!r}.", field="rules.name")
        if not rule.reason.strip():
            raise InvalidInputError(f"The rule {rule.name!r} needs a reason.", field="rules.reason")
    for case in document.cases:
        if case.rule is not None and case.rule not in names:
            raise InvalidInputError(f"The case {case.name!r} names no rule of this policy: {case.rule!r}.")
        if unknown := (case.facts.keys() | set(case.null)) - SCOPE.keys():
            raise InvalidInputError(f"The case {case.name!r} gives facts that no rule can see: {sorted(unknown)}.")
    if document.approvals is not None:
        _check_approvals(document.approvals)


def _check_approvals(wanted: Approvals) -> None:
    if not 1 <= wanted.count <= PEOPLE_MAX:
        raise InvalidInputError(f"The number of approvals is 1 to {PEOPLE_MAX}.", field="approvals.count")
    known = {role.value for role in Role}
    for role, number in wanted.quorum.items():
        if not 1 <= number <= PEOPLE_MAX:
            raise InvalidInputError(f"A quorum is 1 to {PEOPLE_MAX} people.", field=f"approvals.quorum.{role}")
    for role in (*wanted.roles, *wanted.quorum):
        if role not in known:
            raise InvalidInputError(
                f"There is no role {role!r}.", hint=f"Known are {', '.join(sorted(known))}.", field="approvals.roles"
            )
    for meaning in wanted.meanings:
        if meaning not in COUNTED_MEANINGS:
            raise InvalidInputError(
                f"There is no approval that means {meaning!r}.",
                hint=f"Known are {', '.join(COUNTED_MEANINGS)}; an author's yes never counts.",
                field="approvals.meanings",
            )
    if wanted.valid_days is not None and not 0 < wanted.valid_days <= DAYS_MAX:
        raise InvalidInputError(f"Approvals count for up to {DAYS_MAX} days.", field="approvals.valid_days")


def _compile(name: str, expression: str) -> Program:
    try:
        return compile_expression(expression, scope=SCOPE)
    except CelError as error:
        message = f"Rule {name!r}: {error.message}"
        raise InvalidInputError(message, hint=error.hint, field=f"rules.{name}.expression") from None


def _judge(rule: Rule, program: Program, facts: Mapping[str, Any]) -> RuleVerdict:
    clauses = program.judge(facts)
    return RuleVerdict(
        name=rule.name,
        reason=rule.reason,
        source=rule.source,
        expression=rule.expression.strip(),
        outcome=together(clauses),
        clauses=clauses,
    )
