"""What the gate would say of a release that nobody has opened: for reports, before a change is merged."""

from __future__ import annotations

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.governance import policies
from everline.ids import check_name
from everline.models import service as models
from everline.releases import change, reviews
from everline.releases.gate import current_champion
from everline.releases.types import Preview


@read
def preview(uow: UnitOfWork, *, project: str, endpoint: str, model: str, version: int | str) -> Preview:
    """Judge a version as a release to an endpoint on what is known now; nothing is recorded.

    Approvals belong to a release, so that none is given yet.

    Args:
        endpoint: need not exist; then there is no champion.
        version: a number, `@alias` or `latest`.

    Raises:
        NotFoundError: there is no such version.
    """
    uow.require(Permission.RELEASE_READ, project)
    check_name(endpoint, field="endpoint")
    found = models.get_version(uow, project, model, version)
    champion = current_champion(uow, project, endpoint)
    named = None
    if champion is not None:
        named = {"model": champion.model, "version": champion.version, "package": champion.package}
    facts = policies.gather(
        uow,
        project=project,
        model_version=found.subject,
        model=found.model,
        author=[found.author],
        endpoint=endpoint,
        champion=named,
        signature={} if found.package is None else change.signature_names(uow, found.package),
        change=None
        if found.package is None
        else change.compare_packages(uow, model=found.model, package=found.package, champion=champion),
    )
    verdicts = policies.judge(uow, project=project, action="release", facts=facts)
    if broken := reviews.verdict(uow, project=project, endpoint=endpoint, release=""):
        verdicts.append(broken)
    return Preview(
        endpoint=endpoint,
        model=found.model,
        version=found.version,
        champion=champion,
        live=champion is not None and champion.package == found.package,
        gate=policies.gate(verdicts),
        verdicts=verdicts,
    )
