"""Every error that Everline raises on purpose.

EverlineError
├─ InvalidInputError        400  the request is wrong: the field and the mend are named
├─ UnauthenticatedError     401  nobody is speaking
├─ ForbiddenError           403  somebody is, but may not do this
├─ NotFoundError            404  no such thing, or none that the actor may see
├─ ConflictError            409  the thing is in another state than the request assumes
│  ├─ GateClosedError       409  a policy lacks evidence or approval
│  ├─ InUseError            409  something else relies on it
│  └─ StaleError            409  the world changed since the caller looked
├─ TooLargeError            413  a limit of `Settings` was passed
├─ IntegrityError           422  a digest or signature does not match its content
├─ TooBusyError             429  try again after a while
├─ UnavailableError         503  a service that is needed does not answer
└─ MissingExtraError        501  an optional dependency is not installed

Each carries what and why in its message, what to do in `hint`, and the input's name in `field`.
There is no default status: an error without a class of its own is a bug and answers 500.
"""

from __future__ import annotations

from typing import Any, ClassVar


class EverlineError(Exception):
    """The root: a failure with a sentence for people and a code for programs."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field

    def problem(self) -> dict[str, Any]:
        """The error as an RFC 9457 problem document."""
        body: dict[str, Any] = {"type": "about:blank", "title": self.code.replace("_", " "), "status": self.status}
        body |= {"code": self.code, "detail": self.message}
        if self.hint:
            body["hint"] = self.hint
        if self.field:
            body["field"] = self.field
        return body


class InvalidInputError(EverlineError):
    """The caller sent something that cannot be meant."""

    code = "invalid_input"
    status = 400


class UnauthenticatedError(EverlineError):
    """No valid token, session or password came with the request."""

    code = "unauthenticated"
    status = 401


class ForbiddenError(EverlineError):
    """The actor is known and lacks the permission."""

    code = "forbidden"
    status = 403


class NotFoundError(EverlineError):
    """The thing does not exist in a project that the actor may see."""

    code = "not_found"
    status = 404


class ConflictError(EverlineError):
    """The thing exists in a state that does not allow the request."""

    code = "conflict"
    status = 409


class ContractBrokenError(ConflictError):
    """A dataset version does not keep the contract that its reader declares."""

    code = "contract_broken"


class GateClosedError(ConflictError):
    """A release policy fails or lacks evidence."""

    code = "gate_closed"


class InUseError(ConflictError):
    """Something else relies on the thing as it is: an endpoint, a release, an alias."""

    code = "in_use"


class StaleError(ConflictError):
    """A compare-and-set lost: somebody changed the thing in between."""

    code = "stale"


class TooLargeError(EverlineError):
    """A body, batch or value passes a limit of `Settings`."""

    code = "too_large"
    status = 413


class IntegrityError(EverlineError):
    """Bytes do not match the digest or signature that names them."""

    code = "integrity"
    status = 422


class TooBusyError(EverlineError):
    """A bounded queue is full."""

    code = "too_busy"
    status = 429


class MissingExtraError(EverlineError):
    """An optional dependency is needed and not installed."""

    code = "missing_extra"
    status = 501

    def __init__(self, extra: str, *, module: str) -> None:
        super().__init__(
            f"This needs the Python package {module!r}, which is not installed.",
            hint=f"Install it with `pip install 'everline[{extra}]'`.",
        )


class UnavailableError(EverlineError):
    """A server or store that is needed does not answer."""

    code = "unavailable"
    status = 503


def _tree(root: type[EverlineError]) -> dict[str, type[EverlineError]]:
    found = {root.code: root} if "code" in vars(root) else {}  # whose code it is, not who inherited it
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def from_problem(body: dict[str, Any], *, status: int) -> EverlineError:
    """Rebuild the error that a server reported, so that a remote call raises what a local one would."""
    message = str(body.get("detail") or f"The server answered with status {status}.")
    known = _tree(EverlineError)
    # An answer without a body (to HEAD, or from a proxy) still tells its kind by its status.
    by_status = next((kind for kind in known.values() if kind.status == status), EverlineError)
    if status in (502, 504):  # a proxy says that the server does not answer
        by_status = UnavailableError
    kind = known.get(str(body.get("code")), by_status)
    error = EverlineError.__new__(kind)
    EverlineError.__init__(error, message, hint=body.get("hint"), field=body.get("field"))
    return error
