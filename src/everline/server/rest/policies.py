"""REST face of policies."""

from __future__ import annotations

import msgspec

from everline.delivery.preview import preview_texts
from everline.delivery.types import Preview
from everline.governance import enforcing, policies
from everline.governance.types import CaseResult, GateState, Policy, Verdict
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="policies")


class Source(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A policy's TOML text."""

    source: str


class Sources(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Policies' TOML texts, of which none is saved."""

    sources: list[str]


class Activate(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which version to put into force; null for the newest."""

    version: int | None = None


class Deactivate(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Why a policy is taken out of force."""

    reason: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """How a model version would fare, clause by clause."""

    subject: str
    gate: GateState
    verdicts: list[Verdict]


@routes.get("/policies", returns=Page[Policy])
def list_policies(request: Request) -> Page[Policy]:
    """List the policies of a project."""
    with begin(request) as uow:
        return Page(items=policies.list_policies(uow, project=request.project))


@routes.post("/policies", body=Source, returns=Policy, status=201)
def save(request: Request) -> Policy:
    """Save a policy as the next version of its name; checked, not yet in force."""
    body = decode(Source, request)
    with begin(request) as uow:
        return policies.save(uow, body.source, project=request.project)


@routes.post("/policies/test", body=Source, returns=Page[CaseResult])
def try_source(request: Request) -> Page[CaseResult]:
    """Check a policy that is not saved, and run its test cases."""
    body = decode(Source, request)
    with begin(request) as uow:
        return Page(items=policies.try_source(uow, body.source, project=request.project))


@routes.post("/policies/preview", body=Sources, returns=Page[Preview])
def preview(request: Request) -> Page[Preview]:
    """Say what policies that are not saved would block: of what is live, and of the releases on their way."""
    body = decode(Sources, request)
    with begin(request) as uow:
        return Page(items=preview_texts(uow, body.sources, project=request.project))


@routes.get("/policies/packs", returns=Page[Policy])
def list_packs(request: Request) -> Page[Policy]:
    """List the packs of rules to take from: version 0, not in force."""
    with begin(request) as uow:
        return Page(items=policies.list_packs(uow, project=request.project))


@routes.get("/policies/explain", returns=Explanation)
def explain(request: Request) -> Explanation:
    """Say how a model version would fare as a first release now."""
    subject = request.query("subject", str)
    model, endpoint = request.query("model", str, ""), request.query("endpoint", str, "")
    with begin(request) as uow:
        verdicts = policies.explain(uow, project=request.project, model_version=subject, model=model, endpoint=endpoint)
    return Explanation(subject=subject, gate=policies.gate(verdicts), verdicts=verdicts)


@routes.get("/policies/{name}", returns=Policy)
def get_policy(request: Request) -> Policy:
    """Return a policy: the version asked for, else the one in force, else the newest."""
    version = request.query("version", int, None)
    with begin(request) as uow:
        return policies.get_policy(uow, request.path["name"], project=request.project, version=version)


@routes.get("/policies/{name}/test", returns=Page[CaseResult])
def run_cases(request: Request) -> Page[CaseResult]:
    """Run a saved policy's own test cases."""
    version = request.query("version", int, None)
    with begin(request) as uow:
        return Page(items=policies.run_cases(uow, request.path["name"], project=request.project, version=version))


@routes.post("/policies/{name}/activate", body=Activate, returns=Policy)
def activate(request: Request) -> Policy:
    """Put a version into force; its own test cases must pass."""
    body = decode(Activate, request)
    with begin(request) as uow:
        return enforcing.activate(uow, request.path["name"], project=request.project, version=body.version)


@routes.post("/policies/{name}/deactivate", body=Deactivate, returns=Policy)
def deactivate(request: Request) -> Policy:
    """Take a policy out of force."""
    body = decode(Deactivate, request)
    with begin(request) as uow:
        return enforcing.deactivate(uow, request.path["name"], project=request.project, reason=body.reason)
