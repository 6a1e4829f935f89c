"""Policies, evidence and approvals in both databases."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import select, update

from everline.access.types import Actor, Role
from everline.errors import (
    ConflictError,
    ForbiddenError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    TooLargeError,
)
from everline.governance import approvals, audit, enforcing, evidence, policies
from everline.governance.signing import dsse_verify, server_key
from everline.governance.tables import approval as approval_table
from everline.governance.types import GateState, Outcome

VERSION = "model-version:0192"
RELEASE = "release:0192"
DIGEST = "sha256:" + "a" * 64
MAYA = Actor(uid="maya-uid", name="maya", roles={"default": frozenset({Role.CONTRIBUTOR, Role.APPROVER})})
RAVI = Actor(uid="ravi-uid", name="ravi", roles={"default": frozenset({Role.APPROVER})})
INES = Actor(uid="ines-uid", name="ines", roles={"default": frozenset({Role.AUDITOR})})
CHAMPION = {"model": "flight-delay", "version": 1, "package": "sha256:" + "c" * 64}

EVALUATION = {
    "dataset": "flights/4",
    "n": 28_000,
    "metrics": {"auc": 0.71, "calibration_error": 0.02, "log_loss": 0.44},
    "slices": [
        {"by": "carrier", "value": "AA", "n": 2700, "metrics": {"auc": 0.68}},
        {"by": "carrier", "value": "OO", "n": 6, "metrics": {}},
    ],
}
LINEAGE = {
    "run": "r",
    "code_recorded": True,
    "environment_recorded": True,
    "data_recorded": True,
    "seed_recorded": True,
    "data_age_days": 1,
}

FAIR = """
name = "fair"
title = "No origin is forgotten"
reason = "Company rule 7"
scope.endpoints = ["flight-delay"]

[[rules]]
name = "origins"
reason = "Each airport pays for the same service"
expression = "evaluation.slices.filter(s, s.by == 'origin').size() >= 3"

[approvals]
count = 2
roles = ["approver"]

[[cases]]
name = "three origins"
expect = "pass"
[[cases.facts.evaluation.slices]]
by = "origin"
[[cases.facts.evaluation.slices]]
by = "origin"
[[cases.facts.evaluation.slices]]
by = "origin"
"""


@pytest.fixture
def complete(begin):
    """All the evidence that the baseline asks of a first release."""
    attach(begin, "evaluation", EVALUATION)
    attach(begin, "lineage", LINEAGE)
    attach(begin, "signature", {"verified": True, "key": "k"})


def attach(begin, kind, body):
    with begin() as uow:
        return evidence.attach(uow, subject=VERSION, kind=kind, body=body, project="default")


def judged(begin, *, champion=None, digest=DIGEST, author="maya-uid", endpoint="flight-delay"):
    with begin() as uow:
        facts = policies.gather(
            uow,
            project="default",
            model_version=VERSION,
            release=RELEASE,
            digest=digest,
            author=author,
            champion=champion,
            endpoint=endpoint,
        )
        return policies.judge(uow, project="default", action="release", facts=facts)


def decide(
    begin, actor, *, decision="approve", digest=DIGEST, author="maya-uid", meaning="validator", reason="because"
):
    with begin(actor) as uow:
        return approvals.record(
            uow,
            subject=RELEASE,
            project="default",
            digest=digest,
            decision=decision,
            meaning=meaning,
            reason=reason,
            author=author,
        )


# Evidence.


def test_evidence_is_kept_as_given_and_named_by_content(begin):
    first = attach(begin, "evaluation", EVALUATION)
    second = attach(begin, "evaluation", dict(reversed(EVALUATION.items())))
    assert first.digest == second.digest
    with begin() as uow:
        found = evidence.list_evidence(uow, subject=VERSION, project="default", kind="evaluation")
        [event, _] = audit.list_events(uow, project="default", action="evidence.attach")
    assert [item.uid for item in found] == [second.uid, first.uid]
    assert found[0].body == EVALUATION
    assert event.data["digest"] == second.digest


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        ("evaluation", {"metrics": {"auc": "high"}}, "metrics.auc"),
        ("evaluation", {}, None),
        ("signature", {"verified": 1}, "verified"),
        ("lineage", {"code_recorded": "yes"}, "code_recorded"),
        ("evaluation", {"metrics": {}, "slices": [{"by": "a"}]}, "slices[0]"),
    ],
)
def test_known_evidence_of_the_wrong_form_is_refused_by_field(begin, kind, body, field):
    with pytest.raises(InvalidInputError) as caught:
        attach(begin, kind, body)
    assert caught.value.field == field


def test_evidence_of_ones_own_kind_has_any_form_within_limits(begin):
    attach(begin, "pen-test", {"findings": [], "by": "x"})
    for body in ({"x": float("nan")}, {"x": 2**60}):
        with pytest.raises(InvalidInputError):
            attach(begin, "pen-test", body)
    with pytest.raises(TooLargeError):
        attach(begin, "pen-test", {"x": "y" * (2 << 20)})
    for subject in ("", "model-version", ":x", "a:" + "x" * 400):
        with pytest.raises(InvalidInputError), begin() as uow:
            evidence.attach(uow, subject=subject, kind="pen-test", body={}, project="default")


# Judging.


def test_a_release_without_evidence_is_unknown_and_blocked(begin):
    [verdict] = judged(begin)
    assert verdict.policy == "baseline"
    assert verdict.outcome is Outcome.UNKNOWN
    assert policies.gate([verdict]) is GateState.BLOCKED
    tested = next(rule for rule in verdict.rules if rule.name == "tested")
    assert [seen.missing for clause in tested.clauses for seen in clause.values] == [True, True]


def test_a_first_release_with_all_evidence_waits_for_a_person(begin, complete):
    [verdict] = judged(begin)
    assert verdict.outcome is Outcome.PASS
    assert policies.gate([verdict]) is GateState.AWAITING_APPROVAL
    assert verdict.approvals.text == "0 of 1 approvals by approver or admin, not the author"
    seen = {s.path: s.value for rule in verdict.rules for clause in rule.clauses for s in clause.values}
    assert seen["evaluation.metrics.auc"] == 0.71
    assert seen["champion"] is None


def test_the_newest_evidence_counts(begin, complete):
    attach(begin, "evaluation", EVALUATION | {"metrics": {"auc": 0.55, "calibration_error": 0.02}})
    [verdict] = judged(begin)
    assert verdict.outcome is Outcome.FAIL
    [clause] = [c for rule in verdict.rules for c in rule.clauses if c.outcome is Outcome.FAIL]
    assert clause.text == "evaluation.metrics.auc >= 0.6"
    assert clause.values[0].value == 0.55


def test_one_slice_below_chance_blocks_and_is_shown(begin, complete):
    slices = [*EVALUATION["slices"], {"by": "carrier", "value": "YV", "n": 544, "metrics": {"auc": 0.49}}]
    attach(begin, "evaluation", EVALUATION | {"slices": slices})
    [verdict] = judged(begin)
    [clause] = next(rule for rule in verdict.rules if rule.name == "every-slice").clauses
    assert clause.outcome is Outcome.FAIL
    assert clause.values[0].path == "evaluation.slices[2]"
    assert clause.values[0].value["value"] == "YV"


def test_a_replacement_needs_a_comparison_with_what_it_replaces(begin, complete):
    def outcome():
        [verdict] = judged(begin, champion=CHAMPION)
        return next(rule for rule in verdict.rules if rule.name == "no-step-back").outcome

    assert outcome() is Outcome.UNKNOWN
    comparison = {"champion": "flight-delay/0", "metric": "auc", "low": 0.01, "high": 0.02}
    attach(begin, "comparison", comparison)
    assert outcome() is Outcome.FAIL, "a comparison with another champion says nothing"
    attach(begin, "comparison", comparison | {"champion": CHAMPION["package"]})
    assert outcome() is Outcome.PASS
    attach(begin, "comparison", comparison | {"champion": "flight-delay/1", "low": -0.02})
    assert outcome() is Outcome.FAIL
    attach(begin, "comparison", comparison | {"champion": "flight-delay/1", "metric": "log_loss", "high": 0.005})
    assert outcome() is Outcome.PASS


# Approvals.


def test_a_second_person_opens_the_gate(begin, complete):
    approval = decide(begin, RAVI)
    [verdict] = judged(begin)
    assert policies.gate([verdict]) is GateState.OPEN
    assert verdict.approvals.by == ["ravi"]
    with begin() as uow:
        envelope = msgspec.json.decode(uow.blobs.get_bytes(approval.statement))
        payload = msgspec.json.decode(dsse_verify(envelope, server_key(uow.settings).verify_key))
    assert payload["subject"] == [{"name": RELEASE, "digest": {"sha256": "a" * 64}}]
    assert payload["predicate"]["person"] == {"uid": "ravi-uid", "name": "ravi", "roles": ["approver"]}


def test_the_author_cannot_approve_and_is_told_why(begin, complete):
    with pytest.raises(ForbiddenError, match="four eyes"):
        decide(begin, MAYA)
    with pytest.raises(ForbiddenError, match="four eyes"):
        decide(begin, MAYA, author=["somebody", "maya-uid"])
    assert policies.gate(judged(begin)) is GateState.AWAITING_APPROVAL


def test_a_person_without_the_role_cannot_approve(begin, complete):
    with pytest.raises(ForbiddenError, match=r"release\.approve"):
        decide(begin, INES)


def test_a_person_decides_once(begin, complete):
    decide(begin, RAVI)
    for decision in ("approve", "reject"):
        with pytest.raises(ConflictError, match="decided on this already"):
            decide(begin, RAVI, decision=decision)


def test_an_approval_holds_for_exactly_one_digest(begin, complete):
    decide(begin, RAVI)
    assert policies.gate(judged(begin, digest="sha256:" + "b" * 64)) is GateState.AWAITING_APPROVAL


def test_a_rejection_closes_the_gate_and_needs_a_reason(begin, complete):
    with pytest.raises(InvalidInputError, match="needs a reason"):
        decide(begin, RAVI, decision="reject", reason=" ")
    decide(begin, RAVI, decision="reject", reason="not before the holidays")
    [verdict] = judged(begin)
    assert policies.gate([verdict]) is GateState.REJECTED
    assert verdict.approvals.text == "rejected by ravi"


@pytest.mark.parametrize(
    "change", [{"decision": "maybe"}, {"meaning": "friend"}, {"digest": "abc"}, {"reason": "x" * 5000}]
)
def test_a_malformed_decision_is_refused(begin, change):
    with pytest.raises(InvalidInputError):
        decide(begin, RAVI, **change)


def test_an_approval_forged_in_the_database_is_found(begin, complete):
    decide(begin, RAVI)
    with begin() as uow:
        uow.conn.execute(update(approval_table).values(digest="sha256:" + "b" * 64))
    with pytest.raises(IntegrityError, match="not what was signed"):
        judged(begin, digest="sha256:" + "b" * 64)
    with begin() as uow:
        assert uow.conn.execute(select(approval_table.c.person_name)).scalar_one() == "ravi"
        uow.conn.execute(update(approval_table).values(digest=DIGEST, person_name="ines"))
    with pytest.raises(IntegrityError):
        judged(begin)


# Policies.


def saved(begin, source, *, activate=True):
    with begin() as uow:
        policy = policies.save(uow, source, project="default")
        return enforcing.activate(uow, policy.name, project="default") if activate else policy


def test_a_policy_holds_from_its_activation_on_in_its_scope(begin, complete):
    policy = saved(begin, FAIR, activate=False)
    assert (policy.version, policy.active) == (1, False)
    assert [verdict.policy for verdict in judged(begin)] == ["baseline"]
    saved(begin, FAIR)
    verdicts = judged(begin)
    assert [(verdict.policy, verdict.version) for verdict in verdicts] == [("baseline", 1), ("fair", 2)]
    assert verdicts[1].outcome is Outcome.FAIL
    assert verdicts[1].digest == policy.digest
    assert [verdict.policy for verdict in judged(begin, endpoint="other")] == ["baseline"]


def test_a_policy_for_a_tier_holds_for_that_tier_and_for_what_has_none(begin, complete):
    source = FAIR.replace('scope.endpoints = ["flight-delay"]', 'scope.tiers = ["high"]')
    with begin() as uow:
        policies.save(uow, source, project="default")
        enforcing.activate(uow, "fair", project="default")
    said = []
    for tier in (None, "low", "high"):
        with begin() as uow:
            if tier:
                evidence.attach(
                    uow, subject=VERSION, kind="risk", body={"assessed": True, "tier": tier}, project="default"
                )
            found = policies.explain(uow, project="default", model_version=VERSION)
            said.append([one.policy for one in found])
    assert said == [["baseline", "fair"], ["baseline"], ["baseline", "fair"]]


def test_two_approvals_are_two_people(begin, complete):
    saved(begin, FAIR.replace(">= 3", ">= 0"))
    decide(begin, RAVI)
    assert policies.gate(judged(begin)) is GateState.AWAITING_APPROVAL
    decide(begin, Actor(uid="ada-uid", name="ada", roles={"default": frozenset({Role.APPROVER})}))
    assert policies.gate(judged(begin)) is GateState.OPEN


def test_a_policy_whose_own_cases_fail_is_not_activated(begin):
    with pytest.raises(ConflictError, match="'three origins' expects pass, but the rules say fail"):
        saved(begin, FAIR.replace(">= 3", ">= 4"))
    with begin() as uow:
        assert [policy.name for policy in policies.list_policies(uow, project="default")] == ["baseline"]


def test_the_baseline_is_in_force_from_the_start_and_replaced_only_by_name(begin, complete):
    with begin() as uow:
        [baseline] = policies.list_policies(uow, project="default")
        assert (baseline.name, baseline.version, baseline.active) == ("baseline", 1, True)
        assert all(case.passed for case in policies.run_cases(uow, "baseline", project="default"))
    ours = baseline.source.replace(">= 0.6 ", ">= 0.7 ").replace("auc = 0.58", "auc = 0.69")
    assert saved(begin, ours).version == 2
    [verdict] = judged(begin)
    assert (verdict.version, verdict.outcome) == (2, Outcome.PASS)
    with begin() as uow:
        enforcing.activate(uow, "baseline", project="default", version=1)
    assert judged(begin)[0].version == 1


def test_without_any_policy_in_force_nothing_is_released(begin, complete):
    with begin() as uow:
        enforcing.deactivate(uow, "baseline", project="default", reason="testing")
    with begin() as uow:
        [event] = audit.list_events(uow, project="default", action="policy.deactivate")
    assert judged(begin) == []
    assert policies.gate([]) is GateState.BLOCKED
    with pytest.raises(ConflictError), begin() as uow:
        enforcing.deactivate(uow, "baseline", project="default", reason="again")
    assert event.data["reason"] == "testing"


def test_saved_versions_never_change(begin):
    first = saved(begin, FAIR)
    second = saved(begin, FAIR.replace("Company rule 7", "Company rule 8"))
    with begin() as uow:
        assert policies.get_policy(uow, "fair", project="default", version=1).source == FAIR
        assert policies.get_policy(uow, "fair", project="default").version == 2
        with pytest.raises(NotFoundError):
            policies.get_policy(uow, "fair", project="default", version=3)
        with pytest.raises(NotFoundError):
            policies.get_policy(uow, "unfair", project="default")
    assert first.digest != second.digest


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("evaluation.slices", "evaluation.slice", "Did you mean 'slices'"),
        ("s.by == 'origin'", "s.by == 3", "can never be equal"),
        ("[[rules]]", "[[rule]]", "unknown field `rule`"),
        ('reason = "Company rule 7"', "", "missing required field `reason`"),
        ('reason = "Company rule 7"', 'reason = " "', "has a title and a reason"),
        ('name = "fair"', 'name = "../fair"', "cannot be used as a name"),
        ("count = 2", "count = 0", "1 to 20"),
        ('expect = "pass"', 'expect = "perhaps"', "Invalid enum value"),
        ("[[cases.facts.evaluation.slices]]", "[[cases.facts.evaluaton.slices]]", "no rule can see"),
        ('title = "', "title = ", "not TOML"),
        ("scope.endpoints", 'action = "delete"\nscope.endpoints', "no action 'delete'"),
        ('name = "fair"', 'name = "fair"\nx = ' + "[" * 3000, "nested too deeply"),
    ],
)
def test_a_mistake_in_a_policy_is_refused_when_it_is_saved(begin, old, new, says):
    with pytest.raises(InvalidInputError) as caught:
        saved(begin, FAIR.replace(old, new))
    assert says in f"{caught.value.message} {caught.value.hint}"


def test_only_those_who_may_write_policies_do(begin):
    for role in (Role.VIEWER, Role.CONTRIBUTOR, Role.APPROVER, Role.AUDITOR):
        with pytest.raises(ForbiddenError), begin(role=role) as uow:
            policies.save(uow, FAIR, project="default")
        with begin(role=role) as uow:
            assert policies.list_policies(uow, project="default")


def test_a_version_is_explained_without_a_release(begin, complete):
    with begin(role=Role.VIEWER) as uow:
        [verdict] = policies.explain(uow, project="default", model_version=VERSION)
    assert verdict.outcome is Outcome.PASS
