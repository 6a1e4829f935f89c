"""A pipeline's run as a command: what is started to rebuild it, as recorded or with a change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from everline.errors import InvalidInputError
from everline.runs.capture import RunRecord
from everline.sdk.client import Client


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild does differently on purpose; a rebuild with changes gets no certificate.

    Attributes:
        params: values by name.
        data: dataset versions by dataset, as `--data` takes them: `"3"` or `"1,2,3"`.
        code: a folder whose files lie over the recorded code.
    """

    params: dict[str, str] = {}
    seed: int | None = None
    data: dict[str, str] = {}
    code: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.params or self.data or self.code or self.seed is not None)


def command_of(client: Client, run: str, record: RunRecord, changes: Changes) -> list[str]:
    """The arguments of a Python process that rebuilds a run of a pipeline."""
    settings = client.settings
    command = ["-m", "everline", "run", record.entry, "--no-cache", "--reproduces", run, "--json"]
    command += ["--url", settings.url] if settings.url else ["--home", str(settings.home.absolute())]
    command += ["--project", client.project]
    params = {name: _parameter(value) for name, value in record.params.items() if value is not None}
    for name, value in {**params, **changes.params}.items():
        command += ["--param", f"{name}={value}"]
    seed = changes.seed if changes.seed is not None else record.seed
    if seed is not None:
        command += ["--seed", str(seed)]
    versions: dict[str, list[str]] = {}
    for use in record.data:
        versions.setdefault(use.name, []).append(use.digest)
    for name, value in {**{n: ",".join(v) for n, v in versions.items()}, **changes.data}.items():
        command += ["--data", f"{name}={value}"]
    return command


def folder_of(record: RunRecord) -> str:
    """The folder of the entry's module below the project root.

    Raises:
        InvalidInputError: the recorded code has no such module.
    """
    module, colon, _ = record.entry.partition(":")
    if not colon:
        raise InvalidInputError(
            f"The run was started by {record.entry!r}, which is no pipeline, so there are no steps to do again.",
            hint="Put the work into steps of a pipeline.",
        )
    module = module.replace(".", "/")
    endings = (f"{module}.py", f"{module}/__init__.py")
    paths = [file.path for file in record.code.files if f"/{file.path}".endswith(tuple(f"/{e}" for e in endings))]
    if not paths and module.startswith("everline/"):
        return ""  # a pipeline of Everline's own comes with the recorded environment
    if not paths:
        raise InvalidInputError(
            f"The recorded code has no module {module!r}, so {record.entry} cannot be started.",
            hint="The module lies outside the project's folder; put it below the folder with everline.toml.",
        )
    path = min(paths, key=lambda item: (item.count("/"), item))
    ending = next(e for e in endings if path.endswith(e))
    return path.removesuffix(ending)


def _parameter(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
