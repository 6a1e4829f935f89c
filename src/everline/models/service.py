"""Model versions: registered as signed, immutable packages, and traced to what they were made of.

Rules of this registry:
1. A version is registered only after every byte of its package was found in the blob store under the
   digest that the manifest gives, and the manifest under the package digest.
2. The server itself signs what it has checked; what a client says about a signature counts for nothing.
3. Package, signature, run and author of a version never change, and its number is never given out again.
4. Who registers is the author, and the author's approval of its release is refused elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_json
from everline.errors import EverlineError, IntegrityError, InvalidInputError, NotFoundError
from everline.governance import evidence
from everline.governance.signing import server_key, server_keys
from everline.ids import check_digest, check_name
from everline.models import contents, registry, rows
from everline.models.package import MANIFEST_FILE, FileEntry, Manifest, Package, parse_manifest
from everline.models.signing import sign_package, verify_package_signature
from everline.models.tables import model_version
from everline.models.types import Lineage, LineageEdge, LineageNode, ModelVersion, PackageCheck, TrackedVersion
from everline.models.words import check_tags
from everline.runs import rows as run_rows
from everline.runs.types import TrackedRun

ENVELOPE_BYTES_MAX = 4 << 20


@act
def register(
    uow: UnitOfWork,
    *,
    project: str,
    model: str,
    package: str,
    source: str | None = None,
    run: str | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> TrackedVersion:
    """Register a package as the next version of a model.

    Args:
        model: its name; made if it is new.
        package: digest of the package manifest; the manifest and every file must be in the blob store.
        source: where an MLflow client says that it comes from: another version, as `models:/name/1`.
        run: uid of the run that made it; None takes the run that the manifest names, if it is known here.

    Raises:
        NotFoundError: a blob of the package is missing, or there is no such run.
        IntegrityError: the manifest cannot be read, or a file is not what it says.
    """
    uow.require(Permission.MODEL_WRITE, project)
    check_name(model, field="model")
    check_tags(tags or {})
    opened = _open_package(uow, package)
    _check_files(uow, opened.manifest)
    run = _run_of(uow, project, run, opened.manifest)
    registry.get_or_create_model(uow, project, model)
    owner = registry.take_number(uow, project, model)
    number = owner["latest_version"]
    key = server_key(uow.settings)
    envelope = sign_package(opened, key, name=f"{model}/{number}")
    verify_package_signature(opened.manifest_bytes, envelope, key.verify_key)
    signature = uow.blobs.put_bytes(canonical_json(envelope))
    values = {
        "package": package,
        "signature": signature,
        "model_signature": msgspec.to_builtins(opened.manifest.signature),
        "run": run,
        "source": source,
        "description": description,
    }
    version = registry.insert_version(uow, owner, values=values, tags=tags or {})
    uow.record(
        "model.register",
        subject=version.subject,
        project=project,
        model=model,
        version=number,
        package=package,
        signature=signature,
        run=run,
    )
    _attest_signature(uow, version, key.keyid)
    return version


@read
def get_version(uow: UnitOfWork, project: str, model: str, version: int | str) -> TrackedVersion:
    """Return a version by its number, `latest`, or `@alias`."""
    uow.require(Permission.MODEL_READ, project)
    return rows.load_versions(uow.conn, [rows.find_version(uow, project, model, version)])[0]


@read
def get_version_by_uid(uow: UnitOfWork, uid: str) -> TrackedVersion:
    """Return a version by its uid; deleted ones too, since releases and evidence still speak of them."""
    row = rows.find_version_by_uid(uow, uid)
    uow.require(Permission.MODEL_READ, row["project"])
    return rows.load_versions(uow.conn, [row])[0]


@read
def get_manifest(uow: UnitOfWork, project: str, model: str, version: int | str) -> dict[str, Any]:
    """The manifest of a version's package, its digest verified.

    Raises:
        NotFoundError: no such version, or it has no package of ours.
    """
    uow.require(Permission.MODEL_READ, project)
    row = rows.find_version(uow, project, model, version)
    if row["package"] is None:
        raise NotFoundError(
            f"{model} {row['version']} has no package: an MLflow client registered it from a folder.", field="version"
        )
    manifest: dict[str, Any] = msgspec.json.decode(uow.blobs.get_bytes(row["package"]))
    return manifest


@read
def package_files(uow: UnitOfWork, project: str, package: str) -> list[FileEntry]:
    """The files of a package that some version in the project has, the manifest first."""
    uow.require(Permission.MODEL_READ, project)
    known = select(model_version.c.uid).where(model_version.c.package == package, model_version.c.project == project)
    if uow.conn.execute(known.limit(1)).first() is None:
        raise NotFoundError(f"No model version in project {project!r} has the package {package}.", field="path")
    content = uow.blobs.get_bytes(package)
    return [FileEntry(path=MANIFEST_FILE, digest=package, bytes=len(content)), *parse_manifest(content).files]


@read
def version_files(uow: UnitOfWork, project: str, uid: str) -> list[FileEntry]:
    """The files of a version without a package, as they were when it was registered."""
    uow.require(Permission.MODEL_READ, project)
    row = rows.find_version_by_uid(uow, uid)
    if row["project"] != project:
        raise NotFoundError(f"There is no model version {uid[:80]} in project {project!r}.", field="path")
    return contents.files_of(uow, uid)


@act
def verify(uow: UnitOfWork, uid: str) -> PackageCheck:
    """Hash every byte of a version again; with a package, its signature too, and the finding becomes evidence."""
    row = rows.find_version_by_uid(uow, uid)
    uow.require(Permission.EVIDENCE_WRITE, row["project"])
    version = rows.load_versions(uow.conn, [row])[0]
    check = check_package(uow, version)
    if version.contents is None:
        body = {"verified": check.verified, "key": check.key, "problem": check.problem}
        evidence.attach(uow, subject=version.subject, kind="signature", body=body, project=version.project)
    uow.record("model.verify", subject=version.subject, project=version.project, verified=check.verified)
    return check


def check_package(uow: UnitOfWork, version: ModelVersion) -> PackageCheck:
    """Verify a version without leaving a trace; asks for no permission."""
    if version.contents is not None:
        return _check_contents(uow, version, version.contents)
    keys = server_keys(uow.settings)
    files = size = 0
    try:
        if version.package is None or version.signature is None:
            raise IntegrityError(
                f"{version.model} {version.version} has no package, and its files are not kept by this server."
            )
        opened = _open_package(uow, version.package)
        _check_files(uow, opened.manifest)
        files, size = len(opened.manifest.files), sum(entry.bytes for entry in opened.manifest.files)
        envelope = msgspec.json.decode(uow.blobs.get_bytes(version.signature))
        signer = verify_package_signature(opened.manifest_bytes, envelope, keys)
    except (EverlineError, msgspec.DecodeError) as error:
        return PackageCheck(verified=False, key=None, files=files, bytes=size, problem=str(error))
    return PackageCheck(verified=True, key=signer.keyid, files=files, bytes=size)


def _check_contents(uow: UnitOfWork, version: ModelVersion, expected: str) -> PackageCheck:
    files = contents.files_of(uow, version.uid)
    problems = list(contents.damaged(uow, files))
    if contents.digest_of(files) != expected:
        problems.insert(0, "the list of its files was altered")
    problem = f"{version.model} {version.version}: {'; '.join(problems[:10])}." if problems else ""
    size = sum(one.bytes for one in files)
    return PackageCheck(verified=not problems, key=None, files=len(files), bytes=size, problem=problem)


@read
def lineage(uow: UnitOfWork, uid: str) -> Lineage:
    """What a version was made of: dataset versions, code and environment, run, its outputs, the version."""
    row = rows.find_version_by_uid(uow, uid)
    uow.require(Permission.MODEL_READ, row["project"])
    version = rows.load_versions(uow.conn, [row])[0]
    facts = {"package": version.package, "author": version.author_name, "created_at": version.created_at}
    target = LineageNode(
        id=version.subject, kind="model-version", label=f"{version.model} {version.version}", facts=facts
    )
    graph = _Graph(target)
    run = _load_run(uow, version)
    if run is not None:
        graph.add_run(run, version)
    return Lineage(nodes=list(graph.nodes.values()), edges=graph.edges)


class _Graph:
    """Collects nodes once each, and edges between them."""

    def __init__(self, target: LineageNode) -> None:
        self.nodes: dict[str, LineageNode] = {target.id: target}
        self.edges: list[LineageEdge] = []

    def add(self, node: LineageNode, target: str, label: str = "") -> None:
        self.nodes.setdefault(node.id, node)
        edge = LineageEdge(source=node.id, target=target, label=label)
        if edge not in self.edges:
            self.edges.append(edge)

    def add_run(self, run: TrackedRun, version: ModelVersion) -> None:
        node = LineageNode(
            id=f"run:{run.run}",
            kind="run",
            label=run.name,
            facts={"experiment": run.experiment, "pipeline": run.pipeline, "status": run.status, "record": run.record},
        )
        made = [output for output in run.outputs if output.kind in {"model", "package"}]
        for output in made:
            step = LineageNode(
                id=f"output:{run.run}/{output.name}",
                kind="step",
                label=output.name,
                facts={"digest": output.digest, "kind": output.kind, **output.facts},
            )
            self.add(step, version.subject, "packaged")
            self.add(node, step.id, "made")
        if not made:
            self.add(node, version.subject, "made")
        for item in run.inputs:
            label = item.name if item.version is None else f"{item.name} {item.version}"
            data = LineageNode(
                id=f"dataset-version:{item.digest}",
                kind="dataset-version",
                label=label,
                facts={"name": item.name, "version": item.version, "digest": item.digest},
            )
            self.add(data, node.id, item.context or "read")
        for kind in ("code", "environment"):
            digest = _digest_in(run.summary, kind)
            if digest:
                source = LineageNode(id=f"{kind}:{digest}", kind=kind, label=_short(digest), facts={"digest": digest})
                self.add(source, node.id, "ran" if kind == "code" else "ran in")


def _digest_in(summary: Mapping[str, Any], kind: str) -> str | None:
    value = summary.get(kind)
    if isinstance(value, Mapping):
        value = value.get("digest")
    return value if isinstance(value, str) else None


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _load_run(uow: UnitOfWork, version: ModelVersion) -> TrackedRun | None:
    if version.run is None:
        return None
    try:
        row = run_rows.find_run(uow, version.project, version.run)
    except (NotFoundError, InvalidInputError):  # an MLflow client may name a run of another server
        return None
    return run_rows.load_runs(uow.conn, [row])[0]


def _open_package(uow: UnitOfWork, digest: str) -> Package:
    check_digest(digest, field="package")
    size = uow.blobs.size(digest)
    if size is None:
        raise NotFoundError(
            f"The package manifest {digest} is not in the blob store.",
            hint="Upload the package's files and its manifest first.",
            field="package",
        )
    if size > ENVELOPE_BYTES_MAX:
        raise IntegrityError(f"The blob {digest} has {size} bytes: too many for a package manifest.", field="package")
    manifest_bytes = uow.blobs.get_bytes(digest)
    manifest = parse_manifest(manifest_bytes)
    return Package(
        digest=digest, manifest=manifest, manifest_bytes=manifest_bytes, directory=Path(MANIFEST_FILE).parent
    )


def _check_files(uow: UnitOfWork, manifest: Manifest) -> None:
    """Hash every file of a package where it lies."""
    for entry in manifest.files:
        size = uow.blobs.size(entry.digest)
        if size is None:
            raise NotFoundError(
                f"The package file {entry.path!r} ({entry.digest}) is not in the blob store.",
                hint="Upload it, then register again.",
                field="package",
            )
        if size != entry.bytes or not uow.blobs.is_intact(entry.digest):
            raise IntegrityError(
                f"The package file {entry.path!r} was altered in storage: it is not what its digest says.",
                hint="Restore it from a backup, or build the package again.",
                field="package",
            )


def _run_of(uow: UnitOfWork, project: str, run: str | None, manifest: Manifest) -> str | None:
    if run is not None:
        run_rows.find_run(uow, project, run)
        return run
    named = manifest.created_from.get("run")
    if not isinstance(named, str):
        return None
    try:
        run_rows.find_run(uow, project, named)
    except (NotFoundError, InvalidInputError):
        return None
    return named


def _attest_signature(uow: UnitOfWork, version: ModelVersion, key: str) -> None:
    body = {"verified": True, "key": key}
    evidence.attach(uow, subject=version.subject, kind="signature", body=body, project=version.project)
