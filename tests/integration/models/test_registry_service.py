"""Registering, verifying and describing model versions over the real database and blob store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from everline.access.types import Actor, Role
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_json
from everline.errors import ConflictError, ForbiddenError, IntegrityError, InvalidInputError, NotFoundError
from everline.governance import evidence
from everline.governance.signing import server_key
from everline.ids import digest_bytes
from everline.models import aliases, card, registry, service
from everline.models.package import FileEntry, Manifest
from everline.models.signature import ColumnType, Field, OutputField, Signature
from everline.models.signing import verify_package_signature
from everline.models.tables import model_version_file
from everline.releases import deletion
from everline.runs import artifacts, tracking
from everline.runs import service as runs
from everline.runs.types import RunInput, RunOutput
from everline.server.application import Application

Begin = Callable[..., AbstractContextManager[UnitOfWork]]
PROJECT = "default"


def put_package(uow: UnitOfWork, content: bytes = b"weights", **facts: Any) -> str:
    """Put a package of one file into the blob store; return its digest."""
    uow.blobs.put_bytes(content)
    manifest = Manifest(
        flavor="sklearn",
        signature=Signature(
            inputs=[Field(name="distance", type=ColumnType.DOUBLE, nullable=True, min=17.0, max=4983.0)],
            outputs=[OutputField(name="probability", type=ColumnType.DOUBLE)],
        ),
        files=[FileEntry(path="model.skops", digest=digest_bytes(content), bytes=len(content))],
        **facts,
    )
    return uow.blobs.put_bytes(canonical_json(msgspec.to_builtins(manifest)))


def register(uow: UnitOfWork, content: bytes = b"weights", **options: Any) -> Any:
    package = put_package(uow, content)
    return service.register(uow, project=PROJECT, model="flight-delay", package=package, **options)


def test_a_registered_version_is_signed_by_the_server_and_has_evidence(begin: Begin) -> None:
    with begin() as uow:
        first, second = register(uow), register(uow, b"other weights", tags={"team": "x"})
        envelope = msgspec.json.decode(uow.blobs.get_bytes(first.signature))
        manifest = uow.blobs.get_bytes(first.package)
        verify_package_signature(manifest, envelope, server_key(uow.settings).verify_key)
        facts = evidence.list_evidence(uow, subject=first.subject, project=PROJECT, kind="signature")
        assert [version.version for version in (first, second)] == [1, 2]
        assert facts[0].body == {"verified": True, "key": server_key(uow.settings).keyid}
        assert (first.author, first.author_name) == ("local", "local")
        assert first.model_signature == {**msgspec.json.decode(manifest)["signature"]}
        assert service.get_version(uow, PROJECT, "flight-delay", "latest").uid == second.uid
        assert service.get_version_by_uid(uow, second.uid).tags == {"team": "x"}


def test_a_package_with_a_missing_file_is_not_registered(begin: Begin) -> None:
    with pytest.raises(NotFoundError, match=r"model\.skops"), begin() as uow:
        entry = FileEntry(path="model.skops", digest=digest_bytes(b"never stored"), bytes=12)
        manifest = Manifest(flavor="sklearn", signature=Signature(inputs=[]), files=[entry])
        package = uow.blobs.put_bytes(canonical_json(msgspec.to_builtins(manifest)))
        service.register(uow, project=PROJECT, model="flight-delay", package=package)
    with begin() as uow, pytest.raises(NotFoundError):
        registry.get_model(uow, PROJECT, "flight-delay")


@pytest.mark.parametrize("content", [b"not json", b"{}", b'{"schema":1}', b'{"schema": 1, "files": []}'])
def test_a_blob_that_is_no_manifest_is_not_registered(begin: Begin, content: bytes) -> None:
    with pytest.raises(IntegrityError, match="manifest"), begin() as uow:
        package = uow.blobs.put_bytes(content)
        service.register(uow, project=PROJECT, model="flight-delay", package=package)


def test_a_package_that_is_not_there_is_not_registered(begin: Begin) -> None:
    with pytest.raises(NotFoundError, match="not in the blob store"), begin() as uow:
        service.register(uow, project=PROJECT, model="flight-delay", package="sha256:" + "0" * 64)


def test_a_version_without_a_package_is_verified_file_by_file(begin: Begin, app: Application) -> None:
    with begin() as uow:
        run = runs.create_run(uow, PROJECT)
        for path, content in (("model/MLmodel", b"flavors"), ("model/data/trees", b"trees"), ("other", b"x")):
            artifacts.put_artifact(uow, PROJECT, run.run, path, digest=uow.blobs.put_bytes(content))
        registry.create_model(uow, PROJECT, "trees")
        source = f"{run.artifact_uri}/model"
        version = registry.create_version_from_source(uow, PROJECT, "trees", source=source, run=run.run)
        elsewhere = registry.create_version_from_source(uow, PROJECT, "trees", source="s3://bucket/model")
    with begin() as uow:
        check = service.verify(uow, version.uid)
        assert (check.verified, check.key, check.files, check.bytes) == (True, None, 2, 12)
        assert "not kept by this server" in service.verify(uow, elsewhere.uid).problem
        assert evidence.list_evidence(uow, subject=version.subject, project=PROJECT, kind="signature") == []
    assert app.blobs.directory is not None
    hexadecimal = digest_bytes(b"trees").removeprefix("sha256:")
    (app.blobs.directory / "sha256" / hexadecimal[:2] / hexadecimal[2:]).unlink()
    with begin() as uow:
        assert service.verify(uow, version.uid).problem == "trees 1: 'data/trees' is gone from storage."
        uow.conn.execute(update(model_version_file).values(digest=digest_bytes(b"flavors"), bytes=7))
    with begin() as uow:
        assert service.verify(uow, version.uid).problem == "trees 1: the list of its files was altered."


def test_a_file_altered_in_storage_fails_the_verification_with_its_name(begin: Begin, app: Application) -> None:
    with begin() as uow:
        version = register(uow)
        assert service.verify(uow, version.uid).verified
    assert app.blobs.directory is not None
    hexadecimal = digest_bytes(b"weights").removeprefix("sha256:")
    (app.blobs.directory / "sha256" / hexadecimal[:2] / hexadecimal[2:]).write_bytes(b"Weights")
    with begin() as uow:
        check = service.verify(uow, version.uid)
        newest = evidence.list_evidence(uow, subject=version.subject, project=PROJECT, kind="signature")[0]
    assert not check.verified
    assert "model.skops" in check.problem
    assert newest.body["verified"] is False


def test_lineage_leads_from_data_and_code_through_the_run_to_the_version(begin: Begin) -> None:
    data = RunInput(name="flights", digest="sha256:" + "a" * 64, version=3)
    with begin() as uow:
        run = runs.create_run(uow, PROJECT, pipeline="m:p").run
        runs.set_record(
            uow, PROJECT, run, {"entry": "m:p", "code": {"digest": "sha256:c"}, "environment": {"digest": "sha256:e"}}
        )
        package = put_package(uow)
        tracking.log_batch(
            uow, PROJECT, run, inputs=[data], outputs=[RunOutput(name="train", kind="model", digest=package)]
        )
        version = service.register(uow, project=PROJECT, model="flight-delay", package=package, run=run)
        graph = service.lineage(uow, version.uid)
    edges = {(edge.source, edge.target) for edge in graph.edges}
    assert edges == {
        (f"dataset-version:{data.digest}", f"run:{run}"),
        ("code:sha256:c", f"run:{run}"),
        ("environment:sha256:e", f"run:{run}"),
        (f"run:{run}", f"output:{run}/train"),
        (f"output:{run}/train", version.subject),
    }
    assert {node.id for node in graph.nodes} == {end for edge in edges for end in edge}


def test_a_card_says_what_is_recorded_and_what_is_missing(begin: Begin) -> None:
    with begin() as uow:
        run = runs.create_run(uow, PROJECT, pipeline="m:p", params={"depth": "6"}).run
        tracking.log_batch(uow, PROJECT, run, inputs=[RunInput(name="flights", digest="sha256:x", version=3)])
        version = register(uow, run=run)
        body = {
            "dataset": "april",
            "digest": "sha256:d",
            "n": 100,
            "metrics": {"auc": 0.71},
            "slices": [{"by": "carrier", "value": "AA", "n": 10, "metrics": {"auc": 0.7}}],
        }
        evidence.attach(uow, subject=version.subject, kind="evaluation", body=body, project=PROJECT)
        made = card.make_card(uow, version.uid)
        attached = evidence.list_evidence(uow, subject=version.subject, project=PROJECT, kind="card")[0]
        kept = uow.blobs.get_bytes(attached.body["text"]).decode()
    assert made.text == kept
    assert made.text.startswith("---\nlicense: unknown\nlibrary_name: sklearn\n")
    assert "| auc | 0.71 |" in made.text and "| carrier | AA | 10 | 0.7 |" in made.text
    assert "17 to 4983" in made.text
    assert made.missing == ["intended_use", "out_of_scope_use", "limitations", "licence", "owners"]
    assert attached.body["complete"] is False


def test_a_card_is_complete_when_the_builder_told_the_rest(begin: Begin) -> None:
    told = {
        "intended_use": "warn",
        "out_of_scope_use": "none",
        "limitations": "NYC",
        "licence": "apache-2.0",
        "owners": ["a"],
    }
    with begin() as uow:
        run = runs.create_run(uow, PROJECT).run
        tracking.log_batch(uow, PROJECT, run, inputs=[RunInput(name="flights", digest="sha256:x")])
        package = put_package(uow, metadata=told)
        version = service.register(uow, project=PROJECT, model="m", package=package, run=run)
        body = {"dataset": "april", "metrics": {"auc": 0.71}}
        evidence.attach(uow, subject=version.subject, kind="evaluation", body=body, project=PROJECT)
        assert card.show_card(uow, version.uid).complete


def test_a_number_is_never_given_out_twice(begin: Begin) -> None:
    with begin() as uow:
        register(uow)
        register(uow, b"2")
        deletion.delete_version(uow, PROJECT, "flight-delay", 2)
        assert register(uow, b"3").version == 3
        with pytest.raises(NotFoundError):
            service.get_version(uow, PROJECT, "flight-delay", 2)


def test_a_deleted_model_leaves_its_name_and_keeps_its_versions_for_those_who_know_them(begin: Begin) -> None:
    with begin() as uow:
        old = register(uow)
        deletion.delete_model(uow, PROJECT, "flight-delay")
        new = register(uow, b"again")
        assert new.version == 1 and new.uid != old.uid
        assert service.get_version_by_uid(uow, old.uid).package == old.package


def test_an_alias_is_moved_and_falls_with_its_version(begin: Begin) -> None:
    with begin() as uow:
        register(uow)
        register(uow, b"2")
        aliases.set_alias(uow, PROJECT, "flight-delay", alias="champion", version=1)
        aliases.set_alias(uow, PROJECT, "flight-delay", alias="champion", version=2)
        assert service.get_version(uow, PROJECT, "flight-delay", "@champion").version == 2
        deletion.delete_version(uow, PROJECT, "flight-delay", 2)
        with pytest.raises(NotFoundError, match="alias"):
            service.get_version(uow, PROJECT, "flight-delay", "@champion")


@pytest.mark.parametrize("alias", ["", "latest", "LATEST", "v1", "a b", "a/b", "x" * 256])
def test_a_wrong_alias_is_refused(begin: Begin, alias: str) -> None:
    with begin() as uow:
        register(uow)
    with pytest.raises(InvalidInputError) as caught, begin() as uow:
        aliases.set_alias(uow, PROJECT, "flight-delay", alias=alias, version=1)
    assert caught.value.field == "alias"


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "..", "../x", ".", "x" * 300, "a\x00b", "a\nb"])
def test_a_wrong_model_name_is_refused(begin: Begin, name: str) -> None:
    with pytest.raises(InvalidInputError), begin() as uow:
        registry.create_model(uow, PROJECT, name)


@pytest.mark.parametrize("version", ["0", "99", "x", "-1", "1.0", "", "@", "@none", "9" * 40, "1'"])
def test_an_unknown_version_is_not_found_or_refused(begin: Begin, version: str) -> None:
    with begin() as uow:
        register(uow)
    with pytest.raises((NotFoundError, InvalidInputError)), begin() as uow:
        service.get_version(uow, PROJECT, "flight-delay", version)


def test_search_finds_models_and_versions_by_name_tag_and_run(begin: Begin) -> None:
    with begin() as uow:
        run = runs.create_run(uow, PROJECT).run
        register(uow, run=run, tags={"stage": "new"})
        registry.create_model(uow, PROJECT, "Other", tags={"team": "x"})

        def names(text: str) -> list[str]:
            return [model.name for model in registry.search_models(uow, PROJECT, filter=text)[0]]

        assert names("") == ["Other", "flight-delay"]
        assert names("name LIKE 'flight%'") == ["flight-delay"]
        assert names("name ILIKE 'OTHER'") == ["Other"]
        assert names("tags.team = 'x'") == ["Other"]
        assert names("tags.`mlflow.prompt.is_prompt` != 'true'") == ["Other", "flight-delay"]
        found, _ = registry.search_versions(uow, PROJECT, filter=f"run_id = '{run}' AND tags.stage = 'new'")
        assert [version.version for version in found] == [1]


def test_a_name_that_is_taken_is_refused(begin: Begin) -> None:
    with begin() as uow:
        registry.create_model(uow, PROJECT, "a")
        registry.create_model(uow, PROJECT, "b")
    with pytest.raises(ConflictError), begin() as uow:
        registry.create_model(uow, PROJECT, "a")
    with pytest.raises(ConflictError), begin() as uow:
        registry.update_model(uow, PROJECT, "a", new_name="b")


def test_a_viewer_may_not_register(begin: Begin) -> None:
    with begin() as uow:
        package = put_package(uow)
    with pytest.raises(ForbiddenError), begin(role=Role.VIEWER) as uow:
        service.register(uow, project=PROJECT, model="m", package=package)


def test_a_stranger_learns_nothing_of_a_version(begin: Begin) -> None:
    with begin() as uow:
        uid = register(uow).uid
    stranger = Actor(uid="stranger", name="stranger", roles={})
    with pytest.raises(NotFoundError), begin(stranger) as uow:
        service.get_version_by_uid(uow, uid)


def test_the_client_registers_verifies_and_exports(client: Any, tmp_path: Path) -> None:
    content = b"weights"
    client.blobs.put_bytes(content)
    entry = FileEntry(path="deep/model.skops", digest=digest_bytes(content), bytes=len(content))
    manifest = Manifest(flavor="sklearn", signature=Signature(inputs=[]), files=[entry])
    package = client.blobs.put_bytes(canonical_json(msgspec.to_builtins(manifest)))
    version = client.models.register("flight-delay", package)
    assert client.models.verify("flight-delay", 1).verified
    assert client.models.get("flight-delay").uid == version.uid
    assert [model.name for model in client.models.list()] == ["flight-delay"]
    assert client.models.lineage("flight-delay", 1).nodes[0].id == version.subject
    assert not client.models.card("flight-delay", 1).complete
    folder = client.models.export("flight-delay", 1, directory=tmp_path / "out")
    assert (folder / "deep" / "model.skops").read_bytes() == content
    assert (tmp_path / "out.sig.json").exists()
