"""Releases in the story: the gate with its values, four eyes, a verified load, a canary, a roll-back."""

from __future__ import annotations

import time
from typing import Any

import httpx
from rich.markup import escape

from everline.demo.stage import ENDPOINT, MODEL, Stage
from everline.errors import ConflictError, ForbiddenError, UnavailableError
from everline.releases.types import Release

_LOADED_S = 30.0


def first_release(stage: Stage) -> None:
    """Open a release, be refused as one's own approver, be approved, go live; then start the data plane."""
    maya, ravi = stage.as_person("maya"), stage.as_person("ravi")
    release = maya.releases.create(ENDPOINT, MODEL, stage["first_version"])
    stage.say(f"release {release.uid} of {MODEL} version {release.version} to {ENDPOINT}: {release.state.value}")
    passed = show_verdicts(stage, release)
    refused = self_approval_refused(stage, release)
    release = ravi.releases.approve(release.uid, meaning="validator", reason="April evaluation read; slices are even.")
    stage.say(f"ravi approves: {release.state.value}")
    release = ravi.releases.promote(release.uid)
    stage.note("first_release", release.uid)
    stage.note("first_revision", release.revision)
    stage.open_data_plane()
    wait_serving(stage, release.revision)
    stage.say("the data plane verified digest, signature and release statement, and loaded it.")
    stage.fact(
        "deployment",
        f"{MODEL} version {release.version} is live at {ENDPOINT}",
        evidence=f"{passed} policy clauses passed; {refused}; ravi approved",
        command=f"everline release show {release.uid}",
    )


def show_verdicts(stage: Stage, release: Release) -> int:
    """Tell every clause of every rule with the values it saw; return how many passed."""
    count = 0
    for verdict in release.check.verdicts if release.check else []:
        stage.say(f"[bold]{verdict.policy}[/bold] version {verdict.version}: {verdict.title}")
        for rule in verdict.rules:
            for clause in rule.clauses:
                count += clause.outcome == "pass"
                seen = ", ".join(f"{value.path} = {_short(value.value)}" for value in clause.values[:3])
                stage.say(f"  {_MARK[clause.outcome]} {rule.name:14} {escape(clause.text)}   [dim]{escape(seen)}[/dim]")
        if verdict.approvals:
            stage.say(f"  {_MARK[verdict.approvals.outcome]} {'approvals':14} {verdict.approvals.text}")
    return count


def self_approval_refused(stage: Stage, release: Release) -> str:
    """Let the author try to approve; it must fail."""
    try:
        stage.as_person("maya").releases.approve(release.uid, reason="I made it, it is good.")
    except ForbiddenError as error:
        stage.say(f"maya tries to approve her own: refused. {error.message}")
        return "the author's own approval was refused"
    raise ConflictError("The author's own approval was accepted: the gate does not hold.")


def wait_serving(stage: Stage, revision: str | None) -> None:
    """Wait until the data plane answers with a revision, or says why it will not."""
    deadline = time.monotonic() + _LOADED_S
    reason: Any = "it has not heard of it"
    while time.monotonic() < deadline:
        for replica in stage.as_person().endpoints.replicas():
            for served in replica.revisions:
                if served.revision == revision:
                    reason = served.reason or reason
                    if served.ready and _ready(stage):
                        return
        time.sleep(0.1)
    raise UnavailableError(f"The data plane does not serve revision {revision}: {reason}.")


def _ready(stage: Stage) -> bool:
    if stage.data is None:
        return False
    return httpx.get(f"{stage.data.url}/v2/models/{ENDPOINT}/ready", timeout=5).status_code == 200


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "…"


_MARK = {"pass": "[green]✓[/green]", "fail": "[red]✗[/red]", "unknown": "[yellow]?[/yellow]"}
