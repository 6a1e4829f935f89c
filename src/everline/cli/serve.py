"""`everline serve`: the data plane in the foreground."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import click

from everline.cli.listening import listen
from everline.config import Settings
from everline.errors import InvalidInputError
from everline.loader import load, require

_PORT = 4681
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@click.command("serve")
@click.option("--host", help="Address to bind to. [127.0.0.1]")
@click.option("--port", type=int, default=_PORT, show_default=True, help="Port to bind to; 0 picks a free one.")
@click.option("--home", type=click.Path(path_type=Path), help="Home directory. [$EVERLINE_HOME, ./.everline]")
@click.option("--control-plane", "url", help="The control plane's address. [$EVERLINE_URL, http://127.0.0.1:4680]")
@click.option("--token", help="API token; better set $EVERLINE_TOKEN, where the process list does not show it.")
@click.option(
    "--key",
    help="The public key to believe, its text or a file; default: the first one met, kept from then on.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Serve what `everline package` wrote, with no control plane and no network.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that answer; one per core that predictions may take.",
)
@click.option("--grpc-port", type=click.IntRange(0, 65535), help="Speak gRPC too, on this port. [HTTP only]")
@click.option("--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning"]))
def command(
    host: str | None,
    port: int,
    home: Path | None,
    url: str | None,
    token: str | None,
    key: str | None,
    bundle: Path | None,
    workers: int,
    grpc_port: int | None,
    log_level: str,
) -> None:
    """Run the data plane: endpoints that answer predictions. SIGTERM finishes, ships the log, and ends."""
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel("WARNING")
    # Models answer on one thread each; set before numpy is loaded, which reads it once.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if bundle is not None and (url or token):
        raise InvalidInputError(
            "A bundle is served with no control plane, so that --control-plane and --token say nothing.",
            hint="Leave them out, or leave --bundle out.",
            field="bundle",
        )
    settings = Settings.load(host=host, port=port, home=home, url=url)
    if settings.host not in _LOOPBACK and not settings.login:
        raise InvalidInputError(
            f"Binding to {settings.host} would let everybody who can reach it ask for predictions.",
            hint="Bind to 127.0.0.1 behind a proxy that knows callers, or set EVERLINE_LOGIN=1 if there is one.",
            field="host",
        )
    if workers > 1 and grpc_port == 0:
        raise InvalidInputError(
            "Several workers must share one port, so that --grpc-port cannot be 0.",
            hint="Name a free port.",
            field="grpc_port",
        )
    if grpc_port is not None:
        require("grpc", extra="grpc")
    if workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise InvalidInputError("This system cannot share a port among workers.", field="workers")
    listener = listen(settings.host, settings.port, shared=workers > 1)
    process = load("everline.serving.dataplane.process")
    standing = None
    if bundle is not None:
        arguments = {"file": str(bundle), "key": key}
        standing = process.Standing(maker="everline.bundles.serving:standing", arguments=arguments)
    options = process.Options(
        control_plane=settings.url or "http://127.0.0.1:4680",
        token=token or os.environ.get("EVERLINE_TOKEN"),
        key=key,
        standing=standing,
        workers=workers,
        grpc_port=grpc_port,
    )
    process.run(
        settings,
        options,
        listener=listener,
        announce=lambda address: click.echo(f"Everline data plane: {address}"),
    )
