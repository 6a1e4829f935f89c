"""Delivery as code through the client: `everline.toml` with what it refers to, planned and applied."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from everline.delivery.reading import FILE_BYTES_MAX, TEXT_BYTES_MAX, read
from everline.delivery.types import Drifted, Pipeline, Plan, Record, Source, Stack
from everline.errors import InvalidInputError
from everline.sdk.client import Client

FILE_NAME = "everline.toml"


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it is sent: with the texts it refers to and the variables that it names, as far as they are set."""

    source: Source
    environment: dict[str, str]


class _Applied(msgspec.Struct, frozen=True):
    record: Record | None


class _Queued(msgspec.Struct, frozen=True):
    job: str


class DeliveryApi:
    """What a repository declares, what would change, and making it so."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def plan(self, file: Path | str = FILE_NAME, *, keep: bool = True) -> Plan:
        """Say what applying a file would change; nothing is changed.

        Args:
            keep: enter the plan in the history, if the token may write.

        Raises:
            InvalidInputError: the file is wrong; says in which line, and what was probably meant.
        """
        bundle = gather(Path(file))
        body = {"source": bundle.source, "environment": bundle.environment, "keep": keep}
        return self._client.call("POST", "/delivery/plan", body=body, returns=Plan)

    def apply(self, file: Path | str = FILE_NAME, *, plan: Plan | None = None) -> Record | None:
        """Make everything as a file declares it; None if it is so already.

        Args:
            plan: what was shown; if it is no longer what would be done, nothing is done.

        Raises:
            StaleError: something that the plan rests on was changed since.
        """
        bundle = gather(Path(file))
        body = {"source": bundle.source, "environment": bundle.environment, "plan": plan}
        return self._client.call("POST", "/delivery/apply", body=body, returns=_Applied).record

    def stacks(self) -> list[Stack]:
        """The files that were applied."""
        return self._client.list_all("/delivery/stacks", kind=Stack, limit=1_000)

    def drift(self, *, stack: str | None = None) -> list[Drifted]:
        """Everything that is declared beside what is, what drifted first."""
        return self._client.list_all("/delivery/drift", kind=Drifted, query={"stack": stack}, limit=100_000)

    def history(self, *, stack: str | None = None, limit: int = 100) -> list[Record]:
        """Plans and applications, the newest first, without their changes."""
        return self._client.list_all("/delivery/history", kind=Record, query={"stack": stack}, limit=limit)

    def get(self, record: str) -> Record:
        """One plan or application with its changes."""
        return self._client.call("GET", f"/delivery/history/{record}", returns=Record)

    def pipelines(self) -> list[Pipeline]:
        """The pipelines that are declared under a name."""
        return self._client.list_all("/delivery/pipelines", kind=Pipeline, limit=1_000)

    def run(self, name: str, *, params: dict[str, Any] | None = None, reason: str = "") -> str:
        """Leave a run of a declared pipeline to the next worker; return the job."""
        body = {"params": params or {}, "reason": reason}
        return self._client.call("POST", f"/delivery/pipelines/{name}/run", body=body, returns=_Queued).job


def gather(file: Path) -> Bundle:
    """Read a file, everything it refers to, and the variables it names.

    Raises:
        InvalidInputError: it is wrong, or a file that it names cannot be read.
    """
    text, files = _text(file, TEXT_BYTES_MAX), dict[str, str]()
    folder = file.resolve().parent

    def load(name: str) -> str:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise InvalidInputError(f"{name} leads out of the folder of {file.name}.", field="files")
        files[name] = _text(path, FILE_BYTES_MAX, name=name)
        return files[name]

    declaration = read(text, name=file.name, load=load)
    environment = {name: os.environ[name] for name in declaration.variables if os.environ.get(name)}
    return Bundle(source=Source(text=text, path=file.name, files=files), environment=environment)


def _text(path: Path, bytes_max: int, *, name: str = "") -> str:
    try:
        with path.open("rb") as opened:
            content = opened.read(bytes_max + 1)
        if len(content) > bytes_max:
            raise InvalidInputError(f"{name or path} is larger than {bytes_max:,} bytes.", field="file")
        return content.decode()
    except FileNotFoundError:
        raise InvalidInputError(f"There is no file {name or path}.", field="file") from None
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{name or path} cannot be read: {error}.", field="file") from None
