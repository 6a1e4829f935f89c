"""The last chapters: nothing has to be believed. Replay, rebuild, ask the past, verify offline."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from everline.clock import parse_rfc3339
from everline.demo.stage import ENDPOINT, Stage
from everline.errors import IntegrityError

REPLAYED = 1_000


def replay(stage: Stage) -> None:
    """Ask the package that gave a logged prediction again, and compare the bits."""
    newest = stage.as_person("ines").predictions.list(ENDPOINT, limit=1)[0]
    one = stage.everline("replay", newest.prediction, person="maya")
    if one["level"] != "P3":
        raise IntegrityError(f"Prediction {newest.prediction} replayed at {one['level']} instead of P3.")
    stage.note("prediction", newest.prediction)
    many = stage.everline("replay", "--endpoint", ENDPOINT, "--sample", str(REPLAYED), person="maya", accept=(0, 1))
    stage.say(f"prediction {newest.prediction} replayed: {one['level']}, every bit equal.")
    stage.say(f"and the newest {REPLAYED:,}: {_levels(many)}.")
    stage.fact(
        "reproducibility",
        "a logged prediction replayed bit for bit",
        evidence=f"{one['level']}; of the newest {REPLAYED:,}: {_levels(many)}",
        command=f"everline replay {newest.prediction}",
    )


def reproduce(stage: Stage) -> None:
    """Rebuild the first model from its record alone, in a process of its own, and compare digests."""
    report = stage.everline("reproduce", stage["first_run"], person="maya", accept=(0, 1))
    if report["verdict"] != "identical":
        raise IntegrityError(
            f"The first model's run was rebuilt, and {report['verdict']}: {report['first_difference']}.",
            hint=f"everline reproduce {stage['first_run']}",
        )
    stage.say(f"run {stage['first_run']} rebuilt from its record: {report['level']}, {report['verdict']}.")
    stage.fact(
        "reproducibility",
        f"the first model rebuilt from its record: {report['verdict']}",
        evidence=f"{report['level']}, signed certificate",
        command=f"everline reproduce {stage['first_run']}",
    )


def ask_the_past(stage: Stage) -> None:
    """What was live while the year was replayed, and who allowed it?"""
    moments = (("before the canary", "before_canary"), ("after the promotion", "after_promotion"), ("now", "end"))
    told = []
    for words, name in moments:
        at = parse_rfc3339(stage[name])
        live = [found for found in stage.as_person("ines").releases.at(at, endpoint=ENDPOINT) if found.share > 0]
        who = "; ".join(
            f"version {found.version} ({found.share:.0%}), allowed by "
            + ", ".join(approval.person_name for approval in found.approvals if approval.decision == "approve")
            for found in live
        )
        stage.say(f"{words}, at {at:%H:%M:%S}: {who}")
        told.append(who)
    stage.fact(
        "governance",
        "what was live then, and who allowed it",
        evidence=told[1],
        command=f"everline releases at {stage['after_promotion']} --endpoint {ENDPOINT}",
    )


def verify_offline(stage: Stage) -> None:
    """Export the log as the auditor; verify it and one event as a stranger: no server, no home, only the public key."""
    ines = stage.as_person("ines")
    bundle, proof = stage.folder / "audit.bundle", stage.folder / "approval.proof.json"
    key = stage.folder / "public.key"
    key.write_text(ines.call("GET", "/info", returns=dict[str, object])["public_key"])  # type: ignore[arg-type]
    approvals = ines.audit.list(action="approval.", limit=1000)
    stage.everline("audit", "prove", str(approvals[0].index), "--out", str(proof), person="ines")
    stage.everline("audit", "export", str(bundle), person="ines")
    log = _as_a_stranger("audit", "verify", "--bundle", str(bundle), "--key", str(key))
    one = _as_a_stranger("audit", "verify", "--proof", str(proof), "--key", str(key))
    if not (log["verified"] and one["verified"]):
        raise IntegrityError(f"The exported log does not verify: {log}, {one}.")
    alone = f"event {approvals[0].index} ({approvals[0].action}) on its own"
    stage.say(f"{log['size']:,} audit events verified offline, and {alone}.")
    evidence = stage.folder / "prediction.zip"
    stage.everline("export", stage["prediction"], str(evidence), person="ines")
    given = _as_a_stranger("verify", str(evidence), "--key", str(key))
    if given["level"] != "P4":
        raise IntegrityError(f"The bundle of one prediction verifies at {given['level']} instead of P4: {given}.")
    stage.say(f"prediction {stage['prediction']} replayed by a stranger from one file: {given['level']}.")
    stage.fact(
        "reproducibility",
        "the same prediction replayed by a stranger, from one file, offline",
        evidence=f"{given['level']}: package, release, approvals and log proved, every bit equal",
        command=f"everline verify {evidence} --key {key}",
    )
    stage.fact(
        "governance",
        f"{log['size']:,} audit events verified by a stranger, offline",
        evidence=f"one inclusion proof, and the whole log against {key.read_text().strip()[:40]}…",
        command=f"everline audit verify --bundle {bundle} --key {key}",
    )


def _as_a_stranger(*arguments: str) -> dict[str, object]:
    """Run a command in an empty directory without any of our settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVERLINE_")}
    with tempfile.TemporaryDirectory(prefix="everline-stranger-") as folder:
        command = [sys.executable, "-m", "everline", *arguments, "--json"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if any(Path(folder).iterdir()):
            raise IntegrityError("Verifying offline wrote something, so it did more than read.")
    if not done.stdout:
        raise IntegrityError(f"`everline {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
    return dict(msgspec.json.decode(done.stdout))


def _levels(batch: dict[str, object]) -> str:
    return f"{batch['bit_equal']} of {batch['n']} bit-equal"
