"""Policies: which text is in force. Removing the declaration of one takes it out of force; its versions stay."""

from __future__ import annotations

from everline.access.types import Permission
from everline.delivery.kinds.kind import Compared, Scope, Spec
from everline.errors import ConflictError, InvalidInputError, NotFoundError
from everline.governance import enforcing, policies
from everline.governance.document import compile_document
from everline.governance.types import BASELINE, Policy


class Policies:
    """`[policies.NAME]`."""

    section = "policies"
    reads = Permission.POLICY_READ
    writes = Permission.POLICY_WRITE
    everywhere = False

    def compare(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> Compared:
        """The text and whether it is in force.

        Raises:
            InvalidInputError: the document is wrong, or is named otherwise.
            ConflictError: one of its own test cases does not come out as it says.
        """
        _check(name, spec)
        target = {"source": spec["source"], "active": spec["active"]}
        found = self._find(scope, name)
        return Compared(target, None if found is None else {"source": found.source, "active": found.active})

    def put(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> None:
        """Save the text if it is a new one, and put it into force or take it out."""
        found = self._saved(scope, name, spec["source"])
        if found is None:
            found = policies.save(scope.uow, spec["source"], project=scope.project)
        active = self._active(scope, name)
        if spec["active"] and (active is None or active.version != found.version):
            enforcing.activate(scope.uow, name, project=scope.project, version=found.version)
        if not spec["active"] and active is not None:
            enforcing.deactivate(scope.uow, name, project=scope.project, reason=spec["reason"])

    def remove(self, scope: Scope, name: str, before: Spec) -> None:
        """Take it out of force; of the built-in policy, put the built-in text back."""
        if name == BASELINE:
            enforcing.activate(scope.uow, name, project=scope.project, version=1)
        elif self._active(scope, name) is not None:
            reason = f"{scope.path} declares it no longer"
            enforcing.deactivate(scope.uow, name, project=scope.project, reason=reason)

    def waits(self, scope: Scope, name: str) -> bool:
        """Whether somebody asked to put another text into force, or none, and another person must agree."""
        return policies.proposal(scope.uow, name, scope.project) is not None

    def _find(self, scope: Scope, name: str) -> Policy | None:
        try:
            return policies.get_policy(scope.uow, name, project=scope.project)
        except NotFoundError:
            return None

    def _saved(self, scope: Scope, name: str, source: str) -> Policy | None:
        """The version in force, else the newest, if it has this text: a second person agrees to what is saved."""
        found = self._find(scope, name)
        if found is None or found.source == source:
            return found
        newest = policies.newest_version(scope.uow, name, scope.project)
        last = policies.get_policy(scope.uow, name, project=scope.project, version=newest)
        return last if last.source == source else None

    def _active(self, scope: Scope, name: str) -> Policy | None:
        found = self._find(scope, name)
        return found if found is not None and found.active else None


def _check(name: str, spec: Spec) -> None:
    compiled = compile_document(spec["source"])
    if compiled.document.name != name:
        raise InvalidInputError(
            f"The document names itself {compiled.document.name!r}.", hint=f"Name it {name!r} in both places."
        )
    failed = [case for case in compiled.run_cases() if not case.passed]
    if spec["active"] and failed:
        raise ConflictError(
            f"Its test case {failed[0].name!r} expects {failed[0].expected}, but the rules say {failed[0].found}.",
            hint="Mend the rule or the case; `everline policy test FILE` shows every clause with what it saw.",
        )
