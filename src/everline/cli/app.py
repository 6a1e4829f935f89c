"""The command line: one group, whose commands are loaded when they are called."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from everline import __version__
from everline.errors import EverlineError
from everline.loader import load

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("everline.cli.demo", "The whole loop on real flight data, then the console's address."),
    "init": ("everline.cli.init", "Start a project: pipeline, tests, policy, everline.toml, CI."),
    "server": ("everline.cli.server", "Run the control plane: API, console, jobs."),
    "serve": ("everline.cli.serve", "Run the data plane: endpoints that answer predictions."),
    "plan": ("everline.cli.plan", "Show what applying everline.toml would change."),
    "apply": ("everline.cli.apply", "Make everything as everline.toml declares it."),
    "delivery": ("everline.cli.delivery", "What is declared, what drifted, and the history of plans."),
    "worker": ("everline.cli.worker", "Run pipelines that triggers have queued."),
    "schedules": ("everline.cli.schedules", "What sets pipelines going, and when; run, pause and backfill."),
    "data": ("everline.cli.data", "Add, list, show, compare and verify dataset versions."),
    "run": ("everline.cli.run", "Run a pipeline."),
    "approvals": ("everline.cli.approvals", "Answer what runs of pipelines ask people."),
    "runs": ("everline.cli.runs", "List, show and compare runs."),
    "views": ("everline.cli.views", "List, show and delete saved views of the table of runs."),
    "models": ("everline.cli.models", "List, show, verify, export and package model versions."),
    "signature": ("everline.cli.signature", "Sign and verify models in the OpenSSF format, which other tools read."),
    "webhooks": ("everline.cli.webhooks", "Tell other programs what happens in the registry."),
    "reproduce": ("everline.cli.reproduce", "Rebuild a run or model and compare."),
    "explain": ("everline.cli.explain", "Say what changed between two runs, and how much of a metric each part moved."),
    "bisect": ("everline.cli.bisect", "Find the first commit or dataset version that moved a metric."),
    "replay": ("everline.cli.replay", "Replay a logged prediction bit for bit."),
    "score": ("everline.cli.score", "Ask a model version every row of a dataset, and keep the answers as one."),
    "backtest": ("everline.cli.backtest", "Ask a model version what was asked before, and compare."),
    "report": ("everline.cli.report", "Write a candidate beside the champion as a report for a pull request."),
    "export": ("everline.cli.export", "Write all evidence about a run, model or prediction to one file."),
    "package": ("everline.cli.package", "Write a released model version to one file that is served with no network."),
    "verify": ("everline.cli.verify", "Check such a file offline, and do it again."),
    "release": ("everline.cli.release", "Bring a model version to an endpoint, under policy."),
    "releases": ("everline.cli.release", "The same as `release`."),
    "endpoints": ("everline.cli.endpoints", "List and show endpoints."),
    "predict": ("everline.cli.predict", "Ask an endpoint for predictions."),
    "predictions": ("everline.cli.predictions", "List and show logged predictions."),
    "profile": ("everline.cli.profile", "Profile a table, and say what drifted from a reference."),
    "monitors": ("everline.cli.monitors", "List, show and run monitors."),
    "incidents": ("everline.cli.incidents", "List, show, acknowledge and resolve incidents."),
    "policy": ("everline.cli.policy", "Test and explain release policies."),
    "audit": ("everline.cli.audit", "Read, verify, prove and export the audit log."),
    "users": ("everline.cli.users", "Users and whether they may act."),
    "tokens": ("everline.cli.tokens", "API tokens."),
    "roles": ("everline.cli.roles", "Roles in projects."),
    "projects": ("everline.cli.projects", "Projects."),
    "import": ("everline.cli.imports", "Take over what an MLflow server kept."),
    "doctor": ("everline.cli.doctor", "Check this installation and its home directory."),
}
"""Name -> (module, help). Each module exposes `command`, a click command or group."""


class LazyGroup(click.Group):
    """Knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = load(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="everline")
def cli() -> None:
    """Everline: the unbroken line from data to decision.

    Every command takes --json and --home; it exits 0, 1 (the answer is no) or 2 (bad usage or input).
    """


def main(arguments: list[str] | None = None) -> None:
    """The entry point: errors become one sentence and an exit code, never a traceback."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        result: Any = cli.main(args=arguments, standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Stopped.", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except EverlineError as error:
        _show(error)
        return 1 if error.code == EverlineError.code else 2  # a fault of ours is not the caller's
    except BrokenPipeError:
        return 0
    except Exception as error:
        if os.environ.get("EVERLINE_DEBUG"):
            raise
        click.secho(f"error: something unexpected happened: {type(error).__name__}: {error}", err=True, fg="red")
        click.echo("  This is a fault of Everline. EVERLINE_DEBUG=1 shows where; please report it.", err=True)
        return 1
    return result if isinstance(result, int) else 0


def _show(error: EverlineError) -> None:
    click.secho(f"error: {error.message}", err=True, fg="red")
    if error.hint:
        click.echo(f"  {error.hint}", err=True)
