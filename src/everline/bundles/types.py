"""Values of evidence bundles. Light."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from everline.governance.types import InclusionProof
from everline.pipelines.types import StepRecord

SCHEMA = 1


class Kind(StrEnum):
    """What a bundle is about."""

    PREDICTION = "prediction"
    MODEL = "model"
    RUN = "run"
    SERVING = "serving"
    """A released model version that a data plane serves out of the file, with no control plane."""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a bundle."""

    path: str
    digest: str
    bytes: int


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """The table of contents, `bundle.json`.

    Attributes:
        subject: `prediction:UID`, `model-version:UID` or `run:UID`.
        package: digest of the model package in it, or None.
        record: digest of the run's record in it, or None.
        left_out: what was left out and why, one sentence each.
    """

    schema: int = SCHEMA
    kind: Kind
    subject: str
    project: str
    created_at: str
    created_by: str
    package: str | None = None
    record: str | None = None
    left_out: tuple[str, ...] = ()
    files: tuple[Listed, ...] = ()


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution that serving needs.

    Attributes:
        digest: of the files it was installed with where the model was made, as the run recorded it; None if unknown.
        model: whether the model needs it, or the data plane alone.
    """

    name: str
    version: str
    digest: str | None = None
    model: bool = True


class Dependencies(msgspec.Struct, frozen=True, kw_only=True):
    """What must be installed to serve, `dependencies.json`: of the recorded environment as much as serving needs.

    Attributes:
        python: version of Python where the model was made.
        environment: digest of that whole environment; None if it was not recorded.
        everline: version of Everline that wrote the bundle.
    """

    python: str
    implementation: str
    environment: str | None = None
    everline: str
    distributions: tuple[Needed, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the server knows of the subject beside its bytes, `facts.json`.

    Attributes:
        prediction: the logged row, if it is about one.
        version: the model version, with its author.
        evidence: what was found out about the version, by kind.
        release: the release that brought it, with approvals and the last check.
        run: the run that made it.
        steps: the run's steps with the digests of their results.
    """

    prediction: dict[str, Any] | None = None
    version: dict[str, Any] | None = None
    evidence: tuple[dict[str, Any], ...] = ()
    release: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    steps: tuple[StepRecord, ...] = ()
    data: tuple[dict[str, Any], ...] = ()


class Proofs(msgspec.Struct, frozen=True, kw_only=True):
    """Audit events about the subject, each with its place in the signed log, `proofs.json`."""

    proofs: tuple[InclusionProof, ...] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was checked offline."""

    name: str
    passed: bool
    detail: str


class BundleReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle proves.

    Attributes:
        level: for a prediction that was replayed, P0 to P4; else None.
        key: the public key that everything was held against.
    """

    kind: Kind
    subject: str
    verified: bool
    findings: tuple[Finding, ...]
    level: str | None = None
    key: str
    facts: Facts | None = None


SERVING_README = """\
This is an Everline serving bundle: one released model version, to be served with no network.

    everline serve --bundle THIS_FILE --key PUBLIC_KEY

Nothing is loaded before every file has its digest, the package its signature, and the release its signed statement.
`everline verify THIS_FILE --key PUBLIC_KEY` says what is in it and who let it out.

By hand: bundle.json lists every file with its SHA-256; statement.json is a DSSE envelope (Ed25519) of an in-toto
statement whose subject is bundle.json; serving.json holds the endpoint with the signed release statement;
dependencies.json what must be installed; package/ is a model package, package.sig.json its OpenSSF signature.
The archive's comment is the SHA-256 of everything before it.
"""

README = """\
This is an Everline evidence bundle.

Check it with nothing but the public key of the server that wrote it:

    everline verify THIS_FILE --key PUBLIC_KEY

That also asks the model again, if it is about a prediction. --rebuild does a run again and compares every output.
No server is needed, and no account.

By hand: bundle.json lists every file with its SHA-256; statement.json is a DSSE envelope (Ed25519) of an in-toto
statement whose subject is bundle.json; each of proofs.json is an audit event with the hashes that lead
(RFC 9162, section 2.1.3) to a signed root (C2SP signed note); package/ is a model package whose signature,
package.sig.json, is an OpenSSF model-signing statement.
"""
