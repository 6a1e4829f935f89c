"""Releases step by step, by people of different roles, for tests of what a release does."""

from contextlib import contextmanager

from everline.access.types import Actor, Role
from everline.governance import audit
from everline.releases import rollout, service
from everline.releases.types import Plan
from everline.serving import service as serving
from tests_support.registry import attest, compared, register


def someone(name, role):
    return Actor(uid=f"uid-{name}", name=name, roles={"default": frozenset({role})})


MAYA, RAVI, INES = someone("maya", Role.CONTRIBUTOR), someone("ravi", Role.APPROVER), someone("ines", Role.AUDITOR)
MAYA_APPROVING = Actor(uid=MAYA.uid, name="maya", roles={"default": frozenset({Role.CONTRIBUTOR, Role.APPROVER})})


class World:
    """The steps of the walk, each in its own transaction and a minute after the last."""

    def __init__(self, begin, clock):
        self.begin, self.clock = begin, clock

    @contextmanager
    def work(self, actor):
        self.clock.advance(60)
        with self.begin(actor) as uow:
            yield uow

    def version(self, content=b"weights", **evidence):
        with self.work(MAYA) as uow:
            made = register(uow, content)
            attest(uow, made, **evidence)
            return made

    def open(self, version, *, share=0.1):
        with self.work(MAYA) as uow:
            return service.create(
                uow, project="default", endpoint="flight-delay", model="flight-delay", version=version.version,
                plan=None if share is None else Plan(canary_share=share),
            )  # fmt: skip

    def do(self, function, uid, *, by=RAVI, **options):
        with self.work(by) as uow:
            return function(uow, uid, **options)

    def promoted(self, content=b"weights"):
        """A first champion."""
        version = self.version(content)
        release = self.open(version)
        self.do(service.approve, release.uid)
        return self.do(rollout.promote, release.uid)

    def challenger(self, content=b"better", *, share=0.1, approve=True):
        """A second release that the gate lets through, with a comparison against what answers now."""
        with self.work(MAYA) as uow:
            (champion,) = serving.get_endpoint(uow, "flight-delay", project="default").revisions
            made = register(uow, content)
            attest(uow, made, comparison=compared(champion.package, made.package))
        release = self.open(made, share=share)
        return self.do(service.approve, release.uid) if approve else release

    def traffic(self):
        with self.begin() as uow:
            found = serving.get_endpoint(uow, "flight-delay", project="default")
        return [(one.version, one.role.value, one.share) for one in found.revisions]

    def events(self, action):
        with self.begin() as uow:
            return audit.list_events(uow, project="default", action=action)
