"""REST face of datasets."""

from __future__ import annotations

from everline.access.unit_of_work import UnitOfWork
from everline.datasets import contracts, service, tags
from everline.datasets.types import (
    AddVersion,
    ChangeTags,
    Contract,
    ContractCheck,
    Dataset,
    DatasetDifference,
    DatasetVersion,
    DatasetVersionDetail,
    KeptContract,
    Verification,
)
from everline.errors import InvalidInputError
from everline.ids import check_name
from everline.loader import load
from everline.models import uses
from everline.models.types import DatasetLineage
from everline.runs import service as runs
from everline.server import profiling
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="datasets")


@routes.get("/datasets", returns=Page[Dataset])
def list_datasets(request: Request) -> Page[Dataset]:
    """List datasets by name; those with all tags that are asked for by `tag=key=value` or `tag=key`."""
    with begin(request) as uow:
        items = service.list_datasets(
            uow,
            request.project,
            limit=request.limit,
            cursor=request.query("cursor", str, None),
            tagged=request.queries("tag"),
        )
    return Page(items=items, next=items[-1].name if len(items) == request.limit else None)


@routes.get("/datasets/{name}", returns=Dataset)
def get_dataset(request: Request) -> Dataset:
    """Show a dataset with its newest version."""
    with begin(request) as uow:
        return service.get_dataset(uow, request.project, request.path["name"])


@routes.get("/datasets/{name}/versions", returns=Page[DatasetVersion])
def list_versions(request: Request) -> Page[DatasetVersion]:
    """List the versions of a dataset, newest first; those with all tags that are asked for by `tag`."""
    with begin(request) as uow:
        items = service.list_versions(
            uow,
            request.project,
            request.path["name"],
            limit=request.limit,
            before=request.query("cursor", int, None),
            tagged=request.queries("tag"),
        )
    return Page(items=items, next=str(items[-1].version) if len(items) == request.limit else None)


@routes.post("/datasets/{name}/versions", body=AddVersion, returns=DatasetVersion, status=201)
def add_version(request: Request) -> DatasetVersion:
    """Add a version of uploaded files, or return the one with the same content."""
    body, name = decode(AddVersion, request), request.path["name"]
    with request.app.begin(request.actor, read_only=True) as uow:
        service.check_addition(uow, request.project, name, files=body.files, label=body.label)
        _check_maker(uow, request.project, body)
    found = load("everline.datasets.inspection").inspect(request.app.blobs, body.files)
    with begin(request) as uow:
        return service.add_version(
            uow, request.project, name, found=found, label=body.label, run=body.run, step=body.step
        )


@routes.patch("/datasets/{name}/tags", body=ChangeTags, returns=Dataset)
def tag_dataset(request: Request) -> Dataset:
    """Set tags of a dataset, and remove those whose value is null."""
    body = decode(ChangeTags, request)
    with begin(request) as uow:
        return tags.tag_dataset(uow, request.project, request.path["name"], body.tags)


@routes.patch("/datasets/{name}/versions/{version}/tags", body=ChangeTags, returns=DatasetVersion)
def tag_version(request: Request) -> DatasetVersion:
    """Set tags of a version, and remove those whose value is null."""
    body = decode(ChangeTags, request)
    with begin(request) as uow:
        return tags.tag_version(uow, request.project, request.path["name"], request.path["version"], body.tags)


@routes.get("/datasets/{name}/versions/{version}/lineage", returns=DatasetLineage)
def show_lineage(request: Request) -> DatasetLineage:
    """Show the run that made a version, the runs that read it, and the model versions that these made."""
    with begin(request) as uow:
        return uses.dataset_lineage(uow, request.project, request.path["name"], request.path["version"])


@routes.get("/datasets/{name}/versions/{version}", returns=DatasetVersionDetail)
def get_version(request: Request) -> DatasetVersionDetail:
    """Show a version, by number, label, digest or `latest`, with files, schema and, once it is there, profile."""
    with begin(request) as uow:
        return service.get_version(uow, request.project, request.path["name"], request.path["version"])


@routes.put("/datasets/{name}/versions/{version}/profile", returns=DatasetVersionDetail)
def profile_version(request: Request) -> DatasetVersionDetail:
    """Show a version with its profile, which is worked out now if a large table was added without."""
    name, version = request.path["name"], request.path["version"]
    profiling.ensure(request.app, request.actor, request.project, name, version)
    with request.app.begin(request.actor, read_only=True) as uow:
        return service.get_version(uow, request.project, name, version)


@routes.get("/datasets/{name}/versions/{version}/verification", returns=Verification)
def verify_version(request: Request) -> Verification:
    """Read every stored byte of a version again and compare digests."""
    with begin(request) as uow:
        return service.verify_version(uow, request.project, request.path["name"], request.path["version"])


@routes.get("/datasets/{name}/versions/{version}/contract", returns=ContractCheck)
def check_version(request: Request) -> ContractCheck:
    """Hold a version against the dataset's newest contract, or contract `number`."""
    number = request.query("number", int, None)
    with begin(request) as uow:
        contracts.get_contract(uow, request.project, request.path["name"], number=number)
    profiling.ensure(request.app, request.actor, request.project, request.path["name"], request.path["version"])
    with begin(request) as uow:
        return contracts.check_version(
            uow, request.project, request.path["name"], request.path["version"], number=number
        )


@routes.get("/datasets/{name}/contract", returns=KeptContract)
def get_contract(request: Request) -> KeptContract:
    """Show the dataset's newest contract, or contract `number`."""
    with begin(request) as uow:
        return contracts.get_contract(
            uow, request.project, request.path["name"], number=request.query("number", int, None)
        )


@routes.put("/datasets/{name}/contract", body=Contract, returns=KeptContract)
def set_contract(request: Request) -> KeptContract:
    """Keep a contract as the newest of the dataset."""
    body = decode(Contract, request)
    with begin(request) as uow:
        return contracts.set_contract(uow, request.project, request.path["name"], body)


@routes.get("/datasets/{name}/difference", returns=DatasetDifference)
def compare_versions(request: Request) -> DatasetDifference:
    """Compare two versions: files, columns, distributions; by `key` (comma-separated) rows, showing `rows` of each."""
    key = [column for column in request.query("key", str, "").split(",") if column]
    name, before, after = request.path["name"], request.query("before", str), request.query("after", str, "latest")
    for version in (before, after):
        profiling.ensure(request.app, request.actor, request.project, name, version)
    with begin(request) as uow:
        return service.compare_versions(
            uow,
            request.project,
            name,
            before=before,
            after=after,
            key=key,
            examples=max(0, request.query("rows", int, 5)),
        )


def _check_maker(uow: UnitOfWork, project: str, body: AddVersion) -> None:
    if body.run is not None:
        runs.get_run(uow, project, body.run)
    elif body.step is not None:
        raise InvalidInputError("A step is one of a run.", hint="Name the run, too.", field="run")
    if body.step is not None:
        check_name(body.step, field="step")
