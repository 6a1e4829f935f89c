"""Aliases that follow an endpoint: `@champion` is then a view of releases, moved in the transaction of each promotion.

An alias of a model names the version that answers the endpoint as its primary. When another model answers, or
nothing does, the alias points at nothing: it never names a version that is not live.
"""

from __future__ import annotations

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.models import aliases
from everline.models import rows as model_rows
from everline.models.types import Model
from everline.models.words import check_alias
from everline.serving import service as serving
from everline.serving.types import RevisionRole


@act
def follow(uow: UnitOfWork, project: str, model: str, *, alias: str, endpoint: str) -> Model:
    """Let an alias name what answers an endpoint, from now on; people no longer move it.

    Raises:
        NotFoundError: there is no such model or endpoint.
    """
    uow.require(Permission.MODEL_WRITE, project)
    uow.require(Permission.RELEASE_OPERATE, project)
    alias = check_alias(alias.removeprefix("@"))
    owner = model_rows.find_model(uow, project, model)
    live = serving.get_endpoint(uow, endpoint, project=project, lock=True).revisions
    aliases.start_following(uow, owner, alias, endpoint=endpoint)
    champion = next((one for one in live if one.role is RevisionRole.PRIMARY), None)
    if champion is None:
        aliases.point(uow, owner, alias, version=None)
    else:
        _point(uow, alias, owner["uid"], version=champion.model_version, release=champion.release)
    return model_rows.load_models(uow.conn, [owner])[0]


def champion_changed(uow: UnitOfWork, *, project: str, endpoint: str, version: str, release: str) -> None:
    """Move the aliases that follow an endpoint, in the transaction that moves its traffic; asks for no permission.

    Args:
        version: uid of the model version that answers from now on.
        release: the release that brought it there.
    """
    for follower in aliases.followers(uow, project, endpoint):
        _point(uow, follower.alias, follower.model, version=version, release=release)


def _point(uow: UnitOfWork, alias: str, model: str, *, version: str, release: str) -> None:
    row = model_rows.find_version_by_uid(uow, version)
    owner = model_rows.find_model_by_uid(uow, model)
    number = row["version"] if row["model"] == model and not row["deleted"] else None
    aliases.point(uow, owner, alias, version=number, release=release)
