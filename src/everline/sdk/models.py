"""Models and their versions through the client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everline.clock import rfc3339
from everline.errors import IntegrityError, InvalidInputError, NotFoundError
from everline.loader import load
from everline.models.types import AliasMove, Lineage, Model, ModelCard, ModelVersion, OpenSignature, PackageCheck
from everline.sdk.client import Client

if TYPE_CHECKING:
    from everline.sdk.scoring.batch import Scored

MANIFEST_FILE = "everline.json"


class ModelsApi:
    """The model registry."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def register(
        self,
        model: str,
        package: str,
        *,
        run: str | None = None,
        description: str = "",
        tags: Mapping[str, Any] | None = None,
    ) -> ModelVersion:
        """Register a package whose files and manifest were uploaded, as the model's next version.

        Args:
            package: digest of the package manifest.
            run: uid of the run that made it.
        """
        body = {
            "package": package,
            "run": run,
            "description": description,
            "tags": {key: str(value) for key, value in (tags or {}).items()},
        }
        version: ModelVersion = self._client.call("POST", f"/models/{model}/versions", body=body, returns=ModelVersion)
        return version

    def get(self, model: str, version: int | str = "latest") -> ModelVersion:
        """Return a version: by number, `latest` or `@alias`."""
        found: ModelVersion = self._client.call("GET", f"/models/{model}/versions/{version}", returns=ModelVersion)
        return found

    def named(self, text: str) -> ModelVersion:
        """The version that people mean by `name/2`, `name:2`, `name@alias`, or `name` for the newest."""
        name, mark, version = text.partition("@")
        if not mark:
            name, mark, version = text.rpartition(":" if ":" in text else "/")
            name, version = (name, version) if mark else (text, "latest")
        if not name or not version:
            raise InvalidInputError(
                f"{text[:200]!r} names no model version.", hint="Write NAME, NAME:2 or NAME@alias.", field="model"
            )
        return self.get(name, f"@{version}" if mark == "@" else version)

    def score(
        self,
        model: str,
        data: str,
        *,
        out: str,
        version: str | int | None = None,
        keep: Sequence[str] | None = None,
        sample: int = 1_000,
        cache: bool = True,
        reason: str = "",
    ) -> Scored:
        """Ask a model version every row of a dataset version, and keep the predictions as a dataset version.

        It is a pipeline: recorded, cached, with lineage. A sample of rows is asked by the data plane's code too, and
        every answer must have the same bits, or nothing is kept.

        Args:
            model: `name:2`, `name@alias`, or `name` for the newest version.
            data: a dataset with the model's inputs; `version` is a number or label, None for the newest.
            out: the dataset that gets the predictions.
            keep: columns that go along; None means those that are no input of the model.
            sample: rows to check online, 1 to 100,000; all of them if there are no more.

        Raises:
            StepFailedError: a row does not fit, or is answered otherwise online; the message names it.
        """
        scoring = load("everline.sdk.scoring.batch")
        _, scored = scoring.run(
            self._client, model, data, out=out, version=version, keep=keep, sample=sample, cache=cache, reason=reason
        )
        found: Scored = scored
        return found

    def model(self, model: str) -> Model:
        """Return a model."""
        found: Model = self._client.call("GET", f"/models/{model}", returns=Model)
        return found

    def list(self, *, filter: str = "", limit: int = 1_000) -> list[Model]:  # noqa: A002
        """Models by name."""
        return self._client.list_all("/models", kind=Model, query={"filter": filter}, limit=limit)

    def versions(self, model: str, *, limit: int = 1_000) -> tuple[ModelVersion, ...]:
        """A model's versions, the newest first."""
        return tuple(self._client.list_all(f"/models/{model}/versions", kind=ModelVersion, limit=limit))

    def manifest(self, model: str, version: int | str = "latest") -> dict[str, Any]:
        """The manifest of a version's package."""
        manifest: dict[str, Any] = self._client.call(
            "GET", f"/models/{model}/versions/{version}/manifest", returns=dict[str, Any]
        )
        return manifest

    def verify(self, model: str, version: int | str = "latest") -> PackageCheck:
        """Have the server hash every byte again and check the signature; the finding becomes evidence."""
        check: PackageCheck = self._client.call(
            "POST", f"/models/{model}/versions/{version}/verify", returns=PackageCheck
        )
        return check

    def signature(self, model: str, version: int | str = "latest") -> OpenSignature:
        """A signature of the version's package in the OpenSSF model-signing format, for other tools."""
        found: OpenSignature = self._client.call(
            "GET", f"/models/{model}/versions/{version}/signature", returns=OpenSignature
        )
        return found

    def lineage(self, model: str, version: int | str = "latest") -> Lineage:
        """What a version was made of, as a graph."""
        graph: Lineage = self._client.call("GET", f"/models/{model}/versions/{version}/lineage", returns=Lineage)
        return graph

    def card(self, model: str, version: int | str = "latest") -> ModelCard:
        """The model card from the facts of today."""
        card: ModelCard = self._client.call("GET", f"/models/{model}/versions/{version}/card", returns=ModelCard)
        return card

    def make_card(self, model: str, version: int | str = "latest") -> ModelCard:
        """Write the model card and attach it as evidence."""
        card: ModelCard = self._client.call("POST", f"/models/{model}/versions/{version}/card", returns=ModelCard)
        return card

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point an alias at a version."""
        self._client.call("PUT", f"/models/{model}/aliases", body={"alias": alias, "version": version})

    def alias(self, model: str, alias: str, *, at: datetime | None = None) -> AliasMove:
        """Where an alias points, or pointed at a moment, since when, and who put it there.

        Raises:
            NotFoundError: it pointed at nothing.
        """
        query = {"at": None if at is None else rfc3339(at)}
        found: AliasMove = self._client.call("GET", _alias(model, alias), query=query, returns=AliasMove)
        return found

    def alias_moves(self, model: str, alias: str, *, limit: int = 1_000) -> tuple[AliasMove, ...]:
        """The moves of an alias, the newest first."""
        return tuple(self._client.list_all(f"{_alias(model, alias)}/moves", kind=AliasMove, limit=limit))

    def delete_alias(self, model: str, alias: str) -> None:
        """Remove an alias."""
        self._client.call("DELETE", _alias(model, alias))

    def follow(self, model: str, alias: str, *, endpoint: str) -> Model:
        """Let an alias follow an endpoint: from now on it names what answers there, and people do not move it."""
        body = {"endpoint": endpoint}
        found: Model = self._client.call("PUT", f"{_alias(model, alias)}/endpoint", body=body, returns=Model)
        return found

    def unfollow(self, model: str, alias: str) -> None:
        """Free an alias: it stays where it points, and people move it again."""
        self._client.call("DELETE", f"{_alias(model, alias)}/endpoint")

    def delete(self, model: str, version: int | None = None) -> None:
        """Take a version off the shelf, or a model with all its versions.

        Raises:
            InUseError: an endpoint needs it; nothing is changed.
        """
        path = f"/models/{model}" if version is None else f"/models/{model}/versions/{version}"
        self._client.call("DELETE", path)

    def export(self, model: str, version: int | str = "latest", *, directory: Path) -> Path:
        """Write a version's package to a directory, every file verified, with its signature beside it.

        Raises:
            NotFoundError: the version has no package of ours.
        """
        found = self.get(model, version)
        if found.package is None or found.signature is None:
            raise NotFoundError(
                f"{model} {found.version} has no package: an MLflow client registered it from {found.source}.",
                hint="Fetch it with MLflow's own client, or make a package of it with `everline models package`.",
            )
        blobs = self._client.blobs
        for entry in self.manifest(model, found.version)["files"]:
            blobs.fetch(entry["digest"], directory / _inside(entry["path"]))
        blobs.fetch(found.package, directory / MANIFEST_FILE)
        blobs.fetch(found.signature, directory.with_name(directory.name + ".sig.json"))
        return directory

    def package(
        self, model: str, version: int | str = "latest", *, into: str | None = None, trust_pickle: bool = False
    ) -> ModelVersion:
        """Make a package of a version that MLflow's client registered, and register it as a model's next version.

        The work is done by this process: the server never loads a model.

        Args:
            into: the model that gets the package; None means the same one.
            trust_pickle: load the version's pickle, which runs whatever its author put in there.

        Raises:
            ConflictError: the version has a package, or was packaged before.
            InvalidInputError: it is no scikit-learn model in a safe format, its inputs are not known, or the
                package would answer differently.
            IntegrityError: the model's file holds types that are not trusted.
        """
        packaged: ModelVersion = load("everline.sdk.packaging").package_version(
            self._client, model, version, into=into or model, trust_pickle=trust_pickle
        )
        return packaged


def _alias(model: str, alias: str) -> str:
    return f"/models/{model}/aliases/{alias.removeprefix('@')}"


def _inside(path: str) -> str:
    """A manifest's path if it stays below its directory: what a server says is checked as well."""
    if path.startswith("/") or "\\" in path or ".." in path.split("/"):
        raise IntegrityError(f"The package lists the path {path[:80]!r}, which leads out of its directory.")
    return path
