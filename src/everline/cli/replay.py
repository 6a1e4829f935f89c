"""`everline replay PREDICTION`: replay a logged prediction bit for bit, or many of an endpoint."""

from __future__ import annotations

import click

from everline.cli.output import client_options, emit, facts
from everline.errors import InvalidInputError
from everline.reproduction.types import Replay, ReplayBatch, Verdict
from everline.sdk.client import Client

_COLOURS = {Verdict.IDENTICAL: "green", Verdict.EQUIVALENT: "yellow"}


@click.command("replay", help=__doc__)
@click.argument("prediction", required=False)
@click.option("--endpoint", help="Replay the newest predictions of this endpoint instead of one.")
@click.option("--sample", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many of them.")
@client_options
def command(client: Client, as_json: bool, prediction: str | None, endpoint: str | None, sample: int) -> int:
    if (prediction is None) == (endpoint is None):
        raise InvalidInputError(
            "Give either a prediction or --endpoint.",
            hint="`everline predictions list ENDPOINT` shows what is logged.",
            field="prediction",
        )
    if endpoint is not None:
        batch: ReplayBatch = client.reproduction.replay_many(endpoint, sample=sample)
        emit(batch, as_json=as_json, human=lambda: _show_batch(batch))
        return 0 if batch.level in ("P2", "P3") else 1
    replay: Replay = client.reproduction.replay(prediction or "")
    emit(replay, as_json=as_json, human=lambda: _show(replay))
    return 0 if replay.level in ("P2", "P3") else 1


def _show(replay: Replay) -> None:
    click.secho(f"{replay.level or 'no level'}  {replay.verdict}", fg=_COLOURS.get(replay.verdict, "red"), bold=True)
    click.echo(replay.reason)
    click.echo()
    for name, value in replay.logged.items():
        facts([(name, f"{value!r} logged, {replay.replayed.get(name)!r} replayed")])
    facts([("package", replay.package), ("release", replay.release), ("certificate", replay.certificate)])


def _show_batch(batch: ReplayBatch) -> None:
    click.secho(f"{batch.level or 'no level'}  {batch.verdict}", fg=_COLOURS.get(batch.verdict, "red"), bold=True)
    click.echo(batch.reason)
    counts = (
        ("bit-equal", batch.bit_equal),
        ("within tolerance", batch.within_tolerance),
        ("diverged", batch.diverged),
    )
    facts([("predictions", batch.n), *counts, ("packages", ", ".join(batch.packages) or None)])
