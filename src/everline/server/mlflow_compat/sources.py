"""What an MLflow client may name as the source of a model version: MLflow's rules.

A source never points at this server's own disk, never climbs, and lies inside of the run or the logged model that the
request names if it is a place that these own. `models:/<model>/<version>` names another version, of which the new one
is a copy, and `models:/<id>` a logged model.
"""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus, urlsplit

from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, NotFoundError
from everline.models import files, registry, service
from everline.models.logged import service as logged_models
from everline.models.types import LoggedModel, TrackedVersion
from everline.runs import rows as runs

_MODEL_URI = re.compile(r"models:/+([^/]+?)(?:/([^/]+)|@([^/@]+))?")
_LOGGED_URI = re.compile(r"models:/+(m-[0-9a-f]{32})")
_PROXY = ("api", "2.0", "mlflow-artifacts", "artifacts")


class Source(NamedTuple):
    """Where the files of a new version are.

    Attributes:
        source: what the version says about it.
        storage: where the files are, if `source` only names another version.
        run: the run that made them.
        package: the package of the version that is copied, if it has one.
        logged: uid of the logged model that they are of.
    """

    source: str
    storage: str | None
    run: str | None
    package: str | None
    logged: str | None


def resolve(uow: UnitOfWork, project: str, source: str, *, run: str | None, logged: str | None) -> Source:
    """Check a source and say what it means.

    Args:
        run, logged: the run and the logged model that the request names; None if it names none.

    Raises:
        InvalidInputError: the source may not be named, or not by this run or logged model.
        NotFoundError: it names a version or a logged model that is not there.
    """
    uri = urlsplit(source)
    if uri.scheme == "models" and not _LOGGED_URI.fullmatch(source):
        copied = _copied(uow, project, source)
        asked = (run, copied.run), (logged, copied.logged_model)
        if any(mine is not None and mine != (theirs or "") for mine, theirs in asked):
            raise InvalidInputError(
                f"Invalid model version source: '{source[:200]}'. The run_id and model_id request parameters must "
                "match the referenced model version.",
                field="source",
            )
        named = f"models:/{copied.model}/{copied.version}"
        return Source(named, files.place_of(uow, copied), copied.run, copied.package, copied.logged_model)
    if not logged:
        if uri.scheme == "models":
            raise _not_of(source, "model_id")
        _check_of_run(uow, project, source, run=run or "")
        return Source(source, None, run or None, None, None)
    model = _check_of_logged(uow, project, source, logged=logged)
    storage = model.artifact_uri if uri.scheme == "models" else None
    return Source(source, storage, run or model.source_run or None, None, model.uid)


def _copied(uow: UnitOfWork, project: str, source: str) -> TrackedVersion:
    """The version that `models:/name/version`, `/stage`, `/latest` or `@alias` names."""
    if urlsplit(source).netloc:
        raise InvalidInputError(
            f"Invalid model version source: '{source[:200]}'. Registered model sources must use the active model "
            "registry.",
            field="source",
        )
    match = _MODEL_URI.fullmatch(source)
    if match is None or (match[2] is None and match[3] is None):
        raise _not_of(source, "model_id")
    name, suffix, alias = match[1], match[2], match[3]
    registry.get_model(uow, project, name)
    if alias is not None:
        try:
            return service.get_version(uow, project, name, f"@{alias}")
        except NotFoundError as error:
            if error.field == "alias":  # MLflow's code for this one
                raise InvalidInputError(error.message, field="alias") from error
            raise
    if (suffix.isascii() and suffix.isdigit()) or suffix.lower() == "latest":
        return service.get_version(uow, project, name, suffix)
    found = registry.latest_versions(uow, project, [name], stages=[suffix])[name]
    if not found:
        raise NotFoundError(f"No versions of model with name '{name}' and stage '{suffix}' found", field="source")
    return found[0]


def _check_of_run(uow: UnitOfWork, project: str, source: str, *, run: str) -> None:
    scheme = urlsplit(source).scheme
    if scheme in ("", "file"):
        root = _root_of_run(uow, project, run)
        if not root or _climbs(source) or not _inside(source, root):
            raise _local(source, field="run_id", owner="run")
        return
    _refuse_climbing(source)
    if scheme == "runs":
        path = urlsplit(source).path.lstrip("/")
        if urlsplit(source).netloc or not run or path.split("/")[0] != run:
            raise _not_of(source, "run_id")
    elif _is_proxied(source):
        try:
            root = _root_of_run(uow, project, run)
        except NotFoundError:
            raise _not_of(source, "run_id") from None
        if not root or not _inside(source, root):
            raise _not_of(source, "run_id")


def _root_of_run(uow: UnitOfWork, project: str, run: str) -> str:
    """Where the artifacts of a run are; empty for no run."""
    uow.require(Permission.RUN_READ, project)
    return runs.artifact_uri(uow, project, run) if run else ""


def _check_of_logged(uow: UnitOfWork, project: str, source: str, *, logged: str) -> LoggedModel:
    scheme = urlsplit(source).scheme
    if scheme in ("models", "runs") and source != f"models:/{logged}":
        raise _not_of(source, "model_id")
    model = logged_models.get(uow, project, logged)
    if scheme in ("", "file"):
        if _climbs(source) or not _inside(source, model.artifact_uri):
            raise _local(source, field="model_id", owner="model")
        return model
    if scheme != "models":
        _refuse_climbing(source)
        if _is_proxied(source) and not _inside(source, model.artifact_uri):
            raise _not_of(source, "model_id")
    return model


def _refuse_climbing(source: str) -> None:
    if _climbs(source):
        raise InvalidInputError(
            f"Invalid model version source: '{source[:200]}'. If supplying a source as an http, https, local file "
            "path, ftp, objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative "
            "path references present. Please provide an absolute path.",
            field="source",
        )


def _local(source: str, *, field: str, owner: str) -> InvalidInputError:
    return InvalidInputError(
        f"Invalid model version source: '{source[:200]}'. To use a local path as a model version source, the "
        f"{field} request parameter has to be specified and the local path has to be contained within the "
        f"artifact directory of the {owner} specified by the {field}.",
        field="source",
    )


def _climbs(source: str) -> bool:
    """Whether a path has parts that mean other places, however often they are quoted."""
    decoded = source
    while (further := unquote_plus(decoded)) != decoded:
        decoded = further
    path = re.sub(r"/+", "/", urlsplit(decoded).path.rstrip("/"))
    if "\x00" in decoded or ".." in re.split(r"[/\\]", decoded):
        return True
    return not path.startswith("/") or posixpath.normpath(path) != path


def _inside(source: str, root: str) -> bool:
    (scheme, host, parts), (root_scheme, root_host, root_parts) = _parts(source), _parts(root)
    return (scheme, host) == (root_scheme, root_host) and bool(root_parts) and parts[: len(root_parts)] == root_parts


def _is_proxied(source: str) -> bool:
    scheme, _, parts = _parts(source)
    size = len(_PROXY)
    in_path = any(parts[start : start + size] == _PROXY for start in range(len(parts) - size + 1))
    return scheme == "mlflow-artifacts" or (scheme in ("http", "https") and in_path)


def _parts(uri: str) -> tuple[str, str, tuple[str, ...]]:
    split = urlsplit(uri)
    return split.scheme.lower(), split.netloc.lower(), tuple(_unquoted(part) for part in split.path.split("/") if part)


def _unquoted(text: str) -> str:
    while (further := unquote(text)) != text:
        text = further
    return text


def _not_of(source: str, field: str) -> InvalidInputError:
    return InvalidInputError(
        f"Invalid model version source: '{source[:200]}'. The {field} request parameter must identify the resource "
        "that contains the source.",
        field="source",
    )
