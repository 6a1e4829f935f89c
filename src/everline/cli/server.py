"""`everline server`: the control plane in the foreground."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from pathlib import Path
from types import FrameType

import click
import uvicorn

from everline.cli.listening import listen
from everline.config import Settings
from everline.errors import InvalidInputError
from everline.server.app import create_app
from everline.server.application import Application
from everline.server.authentication import LOOPBACK


@click.command("server")
@click.option("--host", help="Address to bind to. [127.0.0.1]")
@click.option("--port", type=int, help="Port to bind to; 0 picks a free one. [4680]")
@click.option("--home", type=click.Path(path_type=Path), help="Home directory. [$EVERLINE_HOME, ./.everline]")
@click.option("--login/--no-login", default=None, help="Whether people must log in; needed off loopback.")
@click.option("--worker/--no-worker", default=None, help="Whether this process also runs background jobs.")
@click.option("--log-level", default="warning", show_default=True, type=click.Choice(["debug", "info", "warning"]))
def command(
    host: str | None, port: int | None, home: Path | None, login: bool | None, worker: bool | None, log_level: str
) -> None:
    """Run the control plane: API, console, jobs. SIGTERM finishes what is at hand and ends it."""
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = Settings.load(host=host, port=port, home=home, login=login, worker=worker)
    refuse_open_door(settings)
    application = Application(settings)
    listener = listen(settings.host, settings.port)
    address = "http://{}:{}".format(*listener.getsockname()[:2])
    click.echo(f"Everline control plane and console: {address}")
    server = _Server(
        application,
        uvicorn.Config(
            create_app(application),
            http="httptools",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=20,
        ),
    )
    _settle()
    # uvicorn drains on SIGTERM and then raises the signal again; a drained server has ended well.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run(sockets=[listener])
    application.close()


_SWITCH_S = 0.000_5
"""SQLite's driver lets go of Python's lock at every row; to have it back from a busy thread takes this long."""


_OBJECTS_PER_COLLECTION = 20_000
"""One batch of metrics makes thousands of objects that never refer to each other in a circle."""


def _settle() -> None:
    """Tune this process, which is ours alone, for many short pieces of work in few threads."""
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()  # what start-up made stays for good: the collector need not look through it again and again
    gc.set_threshold(_OBJECTS_PER_COLLECTION)


class _Server(uvicorn.Server):
    """Says that it is about to end before it waits for the requests at hand."""

    def __init__(self, application: Application, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._application = application

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._application.stopping.set()
        super().handle_exit(sig, frame)


def refuse_open_door(settings: Settings) -> None:
    """Without login, every caller is an admin: that is for this machine only."""
    if settings.host not in LOOPBACK and not settings.login:
        raise InvalidInputError(
            f"Binding to {settings.host} without login would make everybody who can reach it an admin.",
            hint="Add --login (create a user first: `everline users create NAME --password -`), or bind to 127.0.0.1.",
            field="host",
        )
