"""From the text of `everline.toml` to what it declares: checked, templates expanded, files it names read.

Client and server read it alike: the client to find the files and variables that go with it and to fail early, the
server because it trusts no client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import msgspec

from everline.datasets.types import Contract
from everline.delivery.declaration import (
    DEFAULT_STACK,
    TABLES,
    TOP_KEYS,
    DatasetTable,
    Declaration,
    Declared,
    MonitorTable,
    PolicyTable,
    ScheduleTable,
    TemplateTable,
    WebhookTable,
)
from everline.delivery.faults import Text, nearest
from everline.delivery.literals import check_values, secret_part
from everline.delivery.spots import Path
from everline.delivery.templates import Row, fill, rows_of
from everline.delivery.types import Source
from everline.errors import EverlineError, InvalidInputError
from everline.ids import check_name

TEXT_BYTES_MAX = 1 << 20
FILE_BYTES_MAX = 4 << 20
FILES_MAX = 1_000
THINGS_MAX = 10_000
TEMPLATES_MAX = 100

Load = Callable[[str], str]


def read_source(source: Source) -> Declaration:
    """Read a file with everything that it refers to, as a client sent them.

    Raises:
        InvalidInputError: the file is wrong, or what it refers to was not sent.
    """

    def load(name: str) -> str:
        if name not in source.files:
            raise InvalidInputError(f"The file {name} was not sent along.", hint="Send it in `files`.", field="files")
        return source.files[name]

    return read(source.text, name=source.path, load=load)


def read(text: str, *, name: str, load: Load) -> Declaration:
    """Read a file.

    Args:
        name: of the file, for errors.
        load: gives the text of a file by its path from this one.

    Raises:
        InvalidInputError: something in it is wrong: says what, in which line, and which name was probably meant.
    """
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise InvalidInputError(f"{name} is larger than {TEXT_BYTES_MAX:,} bytes.", hint="Use templates.", field="text")
    return _Reader(Text(name, text), load).read()


class _Reader:
    def __init__(self, text: Text, load: Load) -> None:
        self.text = text
        self._load = load
        self._loaded: dict[str, str] = {}
        self._variables: set[str] = set()
        self._pipelines: dict[str, dict[str, Any]] = {}

    def read(self) -> Declaration:
        tree = self.text.parse()
        check_values(tree, self.text)
        for key in tree:
            if key not in TOP_KEYS:
                raise self.text.unknown(key, TOP_KEYS, ())
        stack = tree.get("stack", DEFAULT_STACK)
        if not isinstance(stack, str):
            raise self.text.fault("stack is a name.", ("stack",))
        self._named(stack, "stack", ("stack",))
        entries = [*self._top(tree), *self._of_templates(tree)]
        if len(entries) > THINGS_MAX:
            raise self.text.fault(f"The file declares {len(entries):,} things; at most {THINGS_MAX:,} can be.")
        things = self._things(entries)
        return Declaration(stack=stack, things=things, variables=sorted(self._variables))

    # --- where things stand -----------------------------------------------------------------------

    def _top(self, tree: dict[str, Any]) -> Iterator[_Entry]:
        for kind in TABLES:
            for name, value in self._table(tree.get(kind, {}), (kind,)).items():
                yield _Entry(kind, name, value, (kind, name), None)

    def _of_templates(self, tree: dict[str, Any]) -> Iterator[_Entry]:
        given = tree.get("templates", [])
        if not isinstance(given, list):
            raise self.text.fault("Templates are a list.", ("templates",), hint="Write [[templates]].")
        if len(given) > TEMPLATES_MAX:
            raise self.text.fault(f"At most {TEMPLATES_MAX} templates can be.", ("templates",))
        for number, raw in enumerate(given):
            path: Path = ("templates", number)
            template: TemplateTable = self.text.convert(raw, TemplateTable, path)
            self._named(template.name, "name", (*path, "name"))
            rows = rows_of(template, self.text, path, load=self._file)
            for kind in TABLES:
                for name, value in self._table(raw.get(kind, {}), (*path, kind)).items():
                    for row in rows:
                        where = (*path, kind, name)
                        (filled_name,) = fill({name: None}, row, text=self.text, path=where[:-1])
                        yield _Entry(kind, filled_name, fill(value, row, text=self.text, path=where), where, row)

    def _table(self, value: Any, path: Path) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.text.fault(f"{path[-1]} is a table.", path, hint=f"Write [{path[-1]}.NAME].")
        return value

    # --- what they say ----------------------------------------------------------------------------

    def _things(self, entries: list[_Entry]) -> list[Declared]:
        seen: dict[tuple[str, str], _Entry] = {}
        for entry in entries:
            key = (entry.kind, entry.name)
            if key in seen:
                other = f" (the other is of the {seen[key].row.label})" if seen[key].row else ""  # type: ignore[union-attr]
                raise self.text.fault(f"{entry.kind}.{entry.name} is declared twice{other}.", entry.path)
            self._named(entry.name, "name", entry.path)
            seen[key] = entry
        order = list(TABLES)
        things: list[Declared] = []
        for entry in sorted(entries, key=lambda one: order.index(one.kind)):
            for name, spec in self._specs(entry):
                spot = self.text.spot(entry.path)
                origin = "" if entry.row is None else entry.row.label
                plain = msgspec.json.decode(msgspec.json.encode(spec))
                things.append(
                    Declared(
                        kind=entry.kind, name=name, spec=plain, line=None if spot is None else spot.line, origin=origin
                    )
                )
                if entry.kind == "pipelines":
                    self._pipelines[name] = plain
        return things

    def _specs(self, entry: _Entry) -> Iterator[tuple[str, dict[str, Any]]]:
        value = self.text.convert(entry.value, TABLES[entry.kind], entry.path)
        if entry.kind == "roles":
            yield from ((f"{entry.name}/{role.value}", {}) for role in dict.fromkeys(value))
            return
        special: dict[str, Callable[[Any, _Entry], dict[str, Any]]] = {
            "datasets": self._dataset, "policies": self._policy, "webhooks": self._webhook, "monitors": self._monitor,
            "schedules": self._schedule,
        }  # fmt: skip
        if entry.kind in special:
            yield entry.name, special[entry.kind](value, entry)
            return
        if entry.kind == "pipelines" and value.pipeline.count(":") != 1:
            raise self.text.fault(
                f"{value.pipeline[:80]!r} is no address of a pipeline.", (*entry.path, "pipeline"),
                hint="Write module:pipeline, like flight_delay:flight_delay.",
            )  # fmt: skip
        yield entry.name, msgspec.to_builtins(value)

    def _dataset(self, value: DatasetTable, entry: _Entry) -> dict[str, Any]:
        path = (*entry.path, "contract")
        tags = dict(value.tags)
        for name in ("description", "owner"):
            said = getattr(value, name)
            if said is not None and name in tags:
                raise self.text.fault(f"{name} is given twice: as a key and as a tag.", (*entry.path, name))
            if said is not None:
                tags[name] = said
        contract = value.contract
        text = self.text
        if isinstance(contract, str):
            text = Text(contract, self._file(contract, path))
            contract, path = text.parse(), ()
        if contract is None:
            return {"tags": tags}
        known = {name: tags[name] for name in ("owner", "description") if name in tags}
        return {"tags": tags, "contract": msgspec.to_builtins(text.convert(known | contract, Contract, path))}

    def _policy(self, value: PolicyTable, entry: _Entry) -> dict[str, Any]:
        if (value.file is None) == (value.source is None):
            raise self.text.fault(
                f"The policy {entry.name!r} needs a file or a source, and not both.", entry.path,
                hint=f'Write file = "policies/{entry.name}.toml".',
            )  # fmt: skip
        if not value.active and not value.reason.strip():
            raise self.text.fault(
                f"The policy {entry.name!r} is taken out of force without a reason.", (*entry.path, "active"),
                hint='Add reason = "…"; it goes into the audit log.',
            )  # fmt: skip
        source = value.source if value.file is None else self._file(value.file, (*entry.path, "file"))
        return {"source": source, "active": value.active, "reason": value.reason}

    def _webhook(self, value: WebhookTable, entry: _Entry) -> dict[str, Any]:
        if (value.url is None) == (value.url_env is None):
            raise self.text.fault(f"The webhook {entry.name!r} needs a url or a url_env, and not both.", entry.path)
        part = None if value.url is None else secret_part(value.url)
        if part is not None:
            raise self.text.fault(
                f"{part.capitalize()} of this address looks like a secret.", (*entry.path, "url"),
                hint='Keep the address in an environment variable and write url_env = "NAME".',
            )  # fmt: skip
        for key in ("url_env", "secret_env"):
            name = getattr(value, key)
            if name is not None and not (name.isidentifier() and name.isascii()):
                raise self.text.fault(
                    f"{key} names an environment variable, and this is no name of one.", (*entry.path, key)
                )
            if name is not None:
                self._variables.add(name)
        spec: dict[str, Any] = msgspec.to_builtins(value)
        return {key: kept for key, kept in spec.items() if kept is not None}

    def _monitor(self, value: MonitorTable, entry: _Entry) -> dict[str, Any]:
        if value.name:
            raise self.text.fault("A monitor's name is that of its table.", (*entry.path, "name"))
        spec: dict[str, Any] = msgspec.to_builtins(value) | {"name": entry.name}
        if isinstance(value.on_incident, str):
            known = self._pipeline(value.on_incident, (*entry.path, "on_incident"))
            spec["on_incident"] = {key: known[key] for key in ("pipeline", "params", "directory")}
        return spec

    def _schedule(self, value: ScheduleTable, entry: _Entry) -> dict[str, Any]:
        if value.name:
            raise self.text.fault("A schedule's name is that of its table.", (*entry.path, "name"))
        spec: dict[str, Any] = msgspec.to_builtins(value) | {"name": entry.name}
        if ":" not in value.pipeline:
            known = self._pipeline(value.pipeline, (*entry.path, "pipeline"))
            spec["pipeline"] = known["pipeline"]
            spec["directory"] = known["directory"] if value.directory is None else value.directory
            spec["params"] = known["params"] | spec["params"]
        return spec

    def _pipeline(self, name: str, path: Path) -> dict[str, Any]:
        if name not in self._pipelines:
            raise self.text.fault(
                f"This file declares no pipeline {name!r}{nearest(name, self._pipelines) or '.'}", path,
                hint="Declare it under [pipelines], or write its address.",
            )  # fmt: skip
        return self._pipelines[name]

    # --- names and files --------------------------------------------------------------------------

    def _named(self, name: Any, field: str, path: Path) -> None:
        try:
            check_name(str(name), field=field)
        except EverlineError as error:
            raise self.text.fault(error.message, path, hint=error.hint) from None

    def _file(self, name: str, path: Path) -> str:
        if name in self._loaded:
            return self._loaded[name]
        given = PurePosixPath(name)
        if not name or given.is_absolute() or ".." in given.parts or "\\" in name or ":" in name:
            raise self.text.fault(
                f"{name[:80]!r} leads out of the folder of this file.", path,
                hint="Name files below it, as policies/gate.toml.",
            )  # fmt: skip
        try:
            content = self._load(str(given))
        except EverlineError as error:
            raise self.text.fault(error.message, path, hint=error.hint) from None
        if len(content.encode()) > FILE_BYTES_MAX or len(self._loaded) >= FILES_MAX:
            raise self.text.fault(
                f"A file has at most {FILE_BYTES_MAX:,} bytes, and there are at most {FILES_MAX:,} of them.", path
            )
        self._loaded[name] = content
        return content


class _Entry:
    """One thing as the file says it: raw, filled in, and where it stands."""

    def __init__(self, kind: str, name: str, value: Any, path: Path, row: Row | None) -> None:
        self.kind, self.name, self.value, self.path, self.row = kind, str(name), value, path, row
