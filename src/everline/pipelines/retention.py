"""What runs of pipelines leave behind is forgotten after a while: kept results, files of old results, printed output.

Nothing is removed here but rows and names: bytes go when nothing names them any more (`storage.collector`). Digests
stay in the records of steps, and so do the results of runs that made a model version which is still registered.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import Text, and_, bindparam, delete, exists, select, type_coerce, update

from everline.access.unit_of_work import UnitOfWork
from everline.models.tables import model_version
from everline.pipelines import tables
from everline.pipelines.types import ValueRef

STEPS_AT_ONCE = 2_000


def forget(uow: UnitOfWork) -> dict[str, int]:
    """Forget what is older than the settings say; asks for no permission.

    Returns:
        How many kept results, results of steps and pieces of output were forgotten.
    """
    now = uow.clock.now()
    cache, step, out = tables.step_cache, tables.pipeline_step, tables.pipeline_output
    old = now - timedelta(seconds=uow.settings.step_cache_keep_s)
    kept = uow.conn.execute(delete(cache).where(cache.c.used_at < old)).rowcount
    printed_before = now - timedelta(seconds=uow.settings.step_output_keep_s)
    printed = uow.conn.execute(delete(out).where(out.c.at < printed_before)).rowcount
    is_kept = exists().where(and_(cache.c.project == step.c.project, cache.c.key == step.c.key))
    made_a_model = exists().where(model_version.c.run == step.c.run)
    query = (
        select(step.c.uid, step.c.outputs)
        .where(step.c.ended_at < old, type_coerce(step.c.outputs, Text).like('%"files":[{%'), ~is_kept, ~made_a_model)
        .limit(STEPS_AT_ONCE)
    )
    emptied = [{"which": row.uid, "outputs": _without_files(row.outputs)} for row in uow.conn.execute(query)]
    if emptied:
        uow.conn.execute(update(step).where(step.c.uid == bindparam("which")), emptied)
    return {"kept_results": kept, "step_results": len(emptied), "output": printed}


def _without_files(outputs: Any) -> Any:
    refs = msgspec.convert(outputs, tuple[ValueRef, ...])
    return msgspec.to_builtins(tuple(msgspec.structs.replace(ref, files=()) for ref in refs))
