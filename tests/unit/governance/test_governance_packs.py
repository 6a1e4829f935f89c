"""Each rule of each pack blocks what was planted for it, and nothing else does."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from everline.governance.built_in import PACKS, pack_source
from everline.governance.document import compile_document
from everline.governance.types import Outcome

GROUPS = [{"value": "a", "n": 700, "selection_rate": 0.8}, {"value": "b", "n": 90, "selection_rate": 0.76}]
GOOD: dict[str, Any] = {
    "model": {"subject": "model-version:1", "name": "loan", "inputs": ["income", "debt"], "outputs": ["probability"]},
    "release": {"subject": "release:1", "digest": "sha256:a", "endpoint": "loans", "authors": ["maya"]},
    "champion": {"model": "loan", "version": 1, "package": "sha256:c", "name": "loan/1"},
    "now": "2026-11-28T00:00:00Z",
    "evaluation": {
        "n": 790, "metrics": {"auc": 0.8, "calibration_error": 0.03},
        "slices": [{"by": "sex", "value": "f", "n": 600, "metrics": {"auc": 0.75}}],
    },
    "comparison": {"champion": "sha256:c", "metric": "auc", "low": 0.0, "high": 0.02, "verdict": "no difference shown"},
    "lineage": {
        "run": "r", "code_recorded": True, "environment_recorded": True, "data_recorded": True, "seed_recorded": True,
        "data_age_days": 30,
    },
    "signature": {"verified": True},
    "card": {"complete": True, "missing": []},
    "fairness": {
        "threshold": 0.5, "good": "below", "attributes": ["race"],
        "gaps": [{
            "attribute": "race", "n": 790, "selection_ratio": 0.95, "demographic_parity": 0.04,
            "equal_opportunity": 0.03, "groups": GROUPS,
        }],
    },
    "contract": {"holds": True},
    "scan": {"clean": True},
    "risk": {"assessed": True, "tier": "high", "residual_accepted": True},
    "oversight": {"human_review": True, "can_override": True, "can_stop": True, "responsible": "ines"},
    "monitoring": {"planned": True, "drift": True, "quality": True, "responsible": "ravi"},
    "validation": {
        "independent": True, "open_findings": 0, "conceptual_soundness": True, "at": "2026-10-01T00:00:00Z",
    },
    "privacy": {
        "impact_assessed": True, "legal_basis": "consent", "contestable": True, "explainable": True,
        "special_categories": False,
    },
    "change": {
        "same_model": True, "same_flavor": True, "same_inputs": True, "same_outputs": True, "same_target": True,
    },
}  # fmt: skip

PLANTED: dict[tuple[str, str], dict[str, Any]] = {
    ("baseline", "tested"): {"evaluation.metrics.auc": 0.59},
    ("baseline", "every-slice"): {"evaluation.slices.0.metrics.auc": 0.49},
    ("baseline", "lineage"): {"lineage.seed_recorded": False},
    ("baseline", "signature"): {"signature.verified": False},
    ("baseline", "no-step-back"): {"comparison.low": -0.02},
    ("fair-lending", "measured"): {"fairness.gaps.0.groups.1.n": 29},
    ("fair-lending", "not-an-input"): {"model.inputs": ["income", "race"]},
    ("fair-lending", "four-fifths"): {"fairness.gaps.0.selection_ratio": 0.79},
    ("fair-lending", "demographic-parity"): {"fairness.gaps.0.demographic_parity": 0.11},
    ("fair-lending", "equal-opportunity"): {"fairness.gaps.0.equal_opportunity": 0.11},
    ("fair-lending", "specific-reasons"): {"privacy.explainable": False},
    ("eu-ai-act-high-risk", "risk-management"): {"risk.residual_accepted": False},
    ("eu-ai-act-high-risk", "data-governance"): {"contract.holds": False},
    ("eu-ai-act-high-risk", "bias-examined"): {"fairness.gaps": []},
    ("eu-ai-act-high-risk", "technical-documentation"): {"card.complete": False},
    ("eu-ai-act-high-risk", "record-keeping"): {"lineage.run": ""},
    ("eu-ai-act-high-risk", "transparency"): {"card.missing": ["limitations"]},
    ("eu-ai-act-high-risk", "human-oversight"): {"oversight.can_stop": False},
    ("eu-ai-act-high-risk", "accuracy"): {"evaluation.metrics.calibration_error": 0.2},
    ("eu-ai-act-high-risk", "robustness"): {"evaluation.slices.0.metrics.auc": 0.4},
    ("eu-ai-act-high-risk", "cybersecurity"): {"scan.clean": False},
    ("eu-ai-act-high-risk", "substantial-modification"): {"change.same_inputs": False},
    ("eu-ai-act-high-risk", "post-market-monitoring"): {"monitoring.planned": False},
    ("us-sr-26-2", "inventory-and-tier"): {"risk.tier": "unknown"},
    ("us-sr-26-2", "development-evidence"): {"evaluation.n": 99},
    ("us-sr-26-2", "data-quality"): {"contract.holds": False},
    ("us-sr-26-2", "conceptual-soundness"): {"validation.conceptual_soundness": False},
    ("us-sr-26-2", "effective-challenge"): {"validation.open_findings": 1},
    ("us-sr-26-2", "validation-current"): {"validation.at": "2025-11-01T00:00:00Z"},
    ("us-sr-26-2", "outcomes-analysis"): {"comparison.verdict": "worse"},
    ("us-sr-26-2", "ongoing-monitoring"): {"monitoring.drift": False},
    ("gdpr-article-22", "legal-basis"): {"privacy.legal_basis": "legitimate interest"},
    ("gdpr-article-22", "human-intervention"): {"oversight.can_override": False},
    ("gdpr-article-22", "contest"): {"privacy.contestable": False},
    ("gdpr-article-22", "explanation"): {"privacy.explainable": False},
    ("gdpr-article-22", "special-categories"): {"privacy.special_categories": True},
    ("gdpr-article-22", "impact-assessment"): {"privacy.impact_assessed": False},
    ("gdpr-article-22", "accurate-data"): {"lineage.data_age_days": 366},
    ("gdpr-article-22", "no-discrimination"): {"fairness.gaps.0.selection_ratio": 0.7},
}


def with_planted(changes: dict[str, Any]) -> dict[str, Any]:
    facts = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *steps, last = path.split(".")
        place: Any = facts
        for step in steps:
            place = place[int(step) if step.isdigit() else step]
        place[last] = value
    return facts


def blocked(pack: str, facts: dict[str, Any], outcome: Outcome = Outcome.FAIL) -> list[str]:
    verdicts = compile_document(pack_source(pack)).judge(facts)
    assert {one.outcome for one in verdicts} <= {Outcome.PASS, outcome}
    return [one.name for one in verdicts if one.outcome is not Outcome.PASS]


@pytest.mark.parametrize("pack", PACKS)
def test_what_keeps_every_rule_passes_and_every_rule_names_its_source(pack: str) -> None:
    assert blocked(pack, GOOD) == []
    rules = compile_document(pack_source(pack)).document.rules
    assert all(rule.source and rule.reason for rule in rules)
    assert {rule.name for rule in rules} == {rule for of, rule in PLANTED if of == pack}
    assert "not legal advice" in compile_document(pack_source(pack)).document.reason


@pytest.mark.parametrize(("pack", "rule"), PLANTED)
def test_a_planted_violation_blocks_exactly_its_rule(pack: str, rule: str) -> None:
    assert blocked(pack, with_planted(PLANTED[pack, rule])) == [rule]


@pytest.mark.parametrize("pack", PACKS)
def test_without_the_evidence_that_a_rule_reads_it_is_unknown(pack: str) -> None:
    for rule in compile_document(pack_source(pack)).document.rules:
        read = [kind for kind in GOOD if f"{kind}." in rule.expression or f"{kind} ==" in rule.expression]
        read = [kind for kind in read if kind not in ("model", "now", "champion", "change")]
        if "||" in rule.expression:  # one side alone may decide it
            read = [kind for kind in read if kind != "risk"]
        for kind in read:
            facts = {name: body for name, body in GOOD.items() if name != kind}
            assert rule.name in blocked(pack, facts, Outcome.UNKNOWN), (rule.name, kind)


@pytest.mark.parametrize("pack", PACKS)
def test_a_packs_own_cases_come_out_as_they_say(pack: str) -> None:
    results = compile_document(pack_source(pack)).run_cases()
    assert results
    assert [one.name for one in results if not one.passed] == []
