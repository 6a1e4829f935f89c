"""One revision's requests on their way through its model: gathered, asked together, logged, answered.

What arrives in one turn of the event loop is asked in one batch: there is no timer to wait for, so a lone request is
answered at once and sixty-four at the same time cost little more than one. A model that takes long runs in a thread
of its own; what arrives meanwhile is its next batch. A package answers every row with the same bits in a batch of any
size, so that nobody can tell with whom he was asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import TYPE_CHECKING

from everline.config import Settings
from everline.errors import EverlineError, InvalidInputError, UnavailableError
from everline.ids import new_uids
from everline.loader import late
from everline.models.package import Predictor
from everline.models.repairing import repair
from everline.models.signature import Array, Checked, Finding, check_columns
from everline.serving.dataplane.calls import Batch, Call, part, rows_of
from everline.serving.dataplane.forms.ask import Answer, Origin
from everline.serving.dataplane.http.messages import Reply, refusal
from everline.serving.dataplane.kept_answers import ROWS_MAX, KeptAnswers
from everline.serving.dataplane.log.packing import Packer
from everline.serving.dataplane.log.raw_segments import PredictionLog, PredictionRecord
from everline.serving.dataplane.plan import Arrays, Plan, UnfitError, gather
from everline.serving.dataplane.routing import ServedEndpoint, ServedRevision, position

if TYPE_CHECKING:
    import numpy as np
else:
    np = late("numpy")

log = logging.getLogger("everline.serve")

_IN_LOOP_US_MAX = 2_000.0
"""A batch that is expected to take longer than this runs in the lane's thread, so that the loop stays free."""
_SMOOTHING = 0.1
_SILENCE = Reply(200, b"")


class Lane:
    """The calls of one revision; used by the event loop's thread only."""

    def __init__(
        self, endpoint: ServedEndpoint, served: ServedRevision, *, prediction_log: PredictionLog, settings: Settings
    ) -> None:
        if served.predictor is None:
            raise UnavailableError(f"The revision {served.desired.revision} is not ready.")
        desired = served.desired
        self.predictor: Predictor = served.predictor
        self.plan = Plan(self.predictor.signature)
        self._inputs = Packer(self.predictor.signature.inputs)
        self._outputs = Packer(self.predictor.signature.outputs)
        entries = settings.kept_answers_max
        self._kept = KeptAnswers(self._inputs, requests_max=entries) if entries else None
        self._stats = served.stats
        self._log = prediction_log
        self._project = endpoint.desired.project
        self._rows_max = settings.batch_rows_max
        self._wait_s = settings.batch_wait_s
        self._origin = Origin(
            endpoint=endpoint.name,
            model=desired.model,
            version=desired.version,
            revision=desired.revision,
            release=desired.release,
            package=desired.package,
        )
        self._waiting: deque[Call] = deque()
        self._running: Batch | None = None
        self._due = False
        self._row_s = 0.0
        self._thread: ThreadPoolExecutor | None = None
        self._cost_us = dict(self.predictor.cost_us)

    def submit(self, call: Call) -> None:
        """Take a call in; it is answered from here on, whatever happens.

        A call that would not be answered in time is refused at once.
        """
        self._stats.started()
        try:
            self.admit(call.deadline, rows=call.ask.rows)
        except UnavailableError as error:
            self._refuse(call, error)
            return
        self._stats.queue_rows += call.ask.rows
        self._waiting.append(call)
        if self._running is None and not self._due:
            self._plan_turn(self._wait_s)

    def admit(self, deadline: float, *, rows: int = 1) -> None:
        """Make sure that a request would be answered in time; it need not have been read for that.

        Raises:
            UnavailableError: what is ahead of it takes too long.
        """
        ahead = self._stats.queue_rows + (self._running.given.rows if self._running else 0)
        if ahead and time.monotonic() + (ahead + rows) * self._row_s > deadline:
            message = f"{ahead} rows are ahead of this request, which takes longer than it may wait."
            raise UnavailableError(message, hint="Try again in a second.")

    def refused_unread(self, error: EverlineError) -> None:
        """Count a request that could not even be read."""
        self._stats.refused(code=refusal(error).status, reason=error.code, started=False)

    def expire(self, now: float) -> None:
        """Refuse what waited too long, even while the model is busy with it."""
        for call in list(self._waiting) + (self._running.calls if self._running else []):
            if not call.done and now >= call.deadline:
                self._refuse(call, _too_late())

    def close(self) -> None:
        """End the thread; what it has not begun is dropped."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._waiting and self._running is None

    # --- one turn --------------------------------------------------------------------------------

    def _plan_turn(self, wait_s: float) -> None:
        self._due = True
        loop = asyncio.get_running_loop()
        if wait_s > 0:
            loop.call_later(wait_s, self._turn)
        else:
            loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._due = False
        if self._running is not None:
            return
        calls, runtime = self._take()
        if calls:
            batch = self._gathered(calls, runtime)
            if batch is not None:
                self._run(batch)
        if self._waiting and self._running is None and not self._due:
            self._plan_turn(0.0)

    def _take(self) -> tuple[list[Call], str]:
        """The next calls that go together: so many rows, for one runtime, none of them too late."""
        calls: list[Call] = []
        rows, runtime, now = 0, "", time.monotonic()
        while self._waiting:
            call = self._waiting[0]
            size = call.ask.rows
            if not call.done and now >= call.deadline:
                self._refuse(call, _too_late())
            if not call.done:
                wanted = self.predictor.ready_runtime_for(size)
                apart = call.alone or (bool(calls) and calls[0].alone)
                if calls and (apart or rows + size > self._rows_max or wanted != runtime):
                    break
                runtime = wanted
                calls.append(call)
                rows += size
            self._waiting.popleft()
            self._stats.queue_rows -= size
        return calls, runtime

    def _gathered(self, calls: list[Call], runtime: str) -> Batch | None:
        """The calls as one batch; what cannot be asked is refused, and left out."""
        try:
            if all(self.plan.knows(call.ask) for call in calls):
                return self._batch(calls, runtime)
        except (UnfitError, ValueError):  # the latter from columns of unequal length
            pass
        return self._sorted_out(calls, runtime)

    def _batch(self, calls: list[Call], runtime: str) -> Batch:
        bounds = list(accumulate((call.ask.rows for call in calls), initial=0))
        columns = gather([call.ask for call in calls], self.plan.names)
        typed = all(call.ask.typed for call in calls)
        given = self.plan.check(columns, rows=bounds[-1], typed=typed)
        return Batch(calls=calls, bounds=bounds, runtime=runtime, given=given)

    def _sorted_out(self, calls: list[Call], runtime: str) -> Batch | None:
        """Look at each call alone: refuse what does not fit with its reason, keep the rest."""
        fitting: list[Call] = []
        parts: list[dict[str, Array]] = []
        for call in calls:
            try:
                columns = call.ask.by_column(self.plan.names)
                repairs: list[Finding] = []
                if call.endpoint.repairs:
                    columns, repairs = repair(self.predictor.signature, columns)
                checked = check_columns(self.predictor.signature, columns, ignore_unknown=call.endpoint.ignore_unknown)
            except EverlineError as error:
                self._refuse(call, error)
                continue
            call.flags = [*repairs, *(flag for flag in checked.flags if flag.problem == "unknown")]
            fitting.append(call)
            parts.append(checked.arrays)
        if not fitting:
            return None
        bounds = list(accumulate((call.ask.rows for call in fitting), initial=0))
        whole = {name: np.concatenate([part[name] for part in parts]) for name in self.plan.names}
        given = Arrays(rows=bounds[-1], arrays=whole, outside=self.plan.outside(whole))
        return Batch(calls=fitting, bounds=bounds, runtime=runtime, given=given)

    # --- the model -------------------------------------------------------------------------------

    def _run(self, batch: Batch) -> None:
        if self._kept is not None:
            unknown = self._answer_known(self._kept, batch)
            if unknown is None:
                return
            batch = unknown
        if self._expected_us(batch) <= _IN_LOOP_US_MAX and not any(call.ask.explain for call in batch.calls):
            self._finish(batch, *self._asked(batch))
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._running = batch
        loop = asyncio.get_running_loop()

        def work() -> None:
            outcome = self._asked(batch)
            self._cost_us = dict(self.predictor.cost_us)  # of a runtime that was loaded for this batch, too
            loop.call_soon_threadsafe(self._ran, batch, *outcome)

        self._thread.submit(work)

    def _answer_known(self, kept: KeptAnswers, batch: Batch) -> Batch | None:
        """Answer the calls whose question was answered before; the others as a batch, None if there are none."""
        known: list[int] = []
        outputs: list[dict[str, Array]] = []
        for number, call in enumerate(batch.calls):
            if call.ask.rows > ROWS_MAX or call.ask.explain:
                continue
            own = part(batch, [number]).given.arrays
            call.digest = kept.digest(own, runtime=batch.runtime)
            found = kept.find(call.digest)
            if found is not None:
                known.append(number)
                outputs.append(found)
        if not known:
            return batch
        joined = {name: np.concatenate([one[name] for one in outputs]) for name in outputs[0]}
        self._stats.kept(len(known))
        self._finish(part(batch, known), joined, None, 0.0)
        unknown = [number for number in range(len(batch.calls)) if number not in set(known)]
        return part(batch, unknown) if unknown else None

    def _keep(self, kept: KeptAnswers, batch: Batch, outputs: dict[str, Array]) -> None:
        for call, start, stop in zip(batch.calls, batch.bounds, batch.bounds[1:], strict=False):
            if call.digest:
                kept.keep(call.digest, {name: array[start:stop] for name, array in outputs.items()})

    def _ran(self, batch: Batch, outputs: dict[str, Array] | None, error: Exception | None, seconds: float) -> None:
        self._running = None
        self._finish(batch, outputs, error, seconds)
        if self._waiting and not self._due:
            self._turn()

    def _expected_us(self, batch: Batch) -> float:
        cost = self._cost_us.get(batch.runtime)
        return float("inf") if cost is None else cost[0] + cost[1] * batch.given.rows

    def _asked(self, batch: Batch) -> tuple[dict[str, Array] | None, Exception | None, float]:
        began = time.perf_counter()
        try:
            call = Checked(rows=batch.given.rows, arrays=batch.given.arrays, values={}, flags=[])
            outputs = self.predictor.predict_checked(call, batch.runtime)
            self._explain(batch)
        except Exception as error:  # told apart in `_finish`, in the loop's thread
            return None, error, time.perf_counter() - began
        return outputs, None, time.perf_counter() - began

    def _explain(self, batch: Batch) -> None:
        for call, start, stop in zip(batch.calls, batch.bounds, batch.bounds[1:], strict=False):
            if call.ask.explain and not call.primaries:
                arrays = {name: array[start:stop] for name, array in batch.given.arrays.items()}
                own = Checked(rows=stop - start, arrays=arrays, values={}, flags=[])
                call.explanations = self.predictor.explain(own)

    def _finish(self, batch: Batch, outputs: dict[str, Array] | None, error: Exception | None, seconds: float) -> None:
        if seconds:
            row_s = seconds / batch.given.rows
            self._row_s += (row_s - self._row_s) * (_SMOOTHING if self._row_s else 1.0)
        if outputs is None:
            self._failed(batch, error)
            return
        if self._kept is not None and seconds:
            self._keep(self._kept, batch, outputs)
        try:
            self._answer(batch, outputs)
        except EverlineError as refused:
            for call in batch.calls:
                self._refuse(call, refused)
        except Exception:  # a fault of ours, told without its inside
            log.exception("answers could not be written: %s", self._origin.revision)
            for call in batch.calls:
                self._refuse(call, _internal())

    def _failed(self, batch: Batch, error: Exception | None) -> None:
        """The model failed: on one call it is that call's; on several, each is asked alone to see whose it is."""
        if len(batch.calls) > 1:
            self._ask_alone(batch.calls)
            return
        (call,) = batch.calls
        if isinstance(error, EverlineError):
            self._refuse(call, error)
        elif isinstance(error, (ValueError, TypeError)):
            log.error("the model failed: %s", self._origin.revision, exc_info=error)
            message = f"The model cannot answer this request: {str(error)[:300]}."
            hint = "The values fit the signature but not the model; check them, or ask the model's author."
            self._refuse(call, InvalidInputError(message, hint=hint))
        else:
            log.error("the model failed: %s", self._origin.revision, exc_info=error)
            self._refuse(call, _internal())

    def _ask_alone(self, calls: Sequence[Call]) -> None:
        """Put calls back in front of all others, each to be asked by itself, in the thread where the model is slow."""
        for call in reversed(calls):
            call.alone = True
            self._stats.queue_rows += call.ask.rows
            self._waiting.appendleft(call)
        if self._running is None and not self._due:
            self._plan_turn(0.0)

    # --- the answers -----------------------------------------------------------------------------

    def _answer(self, batch: Batch, arrays: dict[str, Array]) -> None:
        waiting = [position for position, call in enumerate(batch.calls) if not call.done]
        if not waiting:
            return
        if len(waiting) < len(batch.calls):  # the others were refused meanwhile: nobody is told, nothing is logged
            rows = rows_of(batch, waiting)
            arrays = {name: array[rows] for name, array in arrays.items()}
            batch = part(batch, waiting)
        calls, bounds = batch.calls, batch.bounds
        uids = _name(calls, bounds[-1])
        now_ns = time.perf_counter_ns()
        latency_us = [(now_ns - call.started_ns) // 1000 for call in calls]
        self._write(batch, arrays, uids, latency_us)
        lists = {name: array.tolist() for name, array in arrays.items()}
        signature = self.predictor.signature
        self._stats.answered([us / 1e6 for us in latency_us], rows=bounds[-1])
        for call, start, stop in zip(calls, bounds, bounds[1:], strict=False):
            if call.primaries:
                call.answer(_SILENCE)
                continue
            flags = call.flags
            if batch.given.outside:
                flags = flags + batch.given.flags(start, stop)
            if flags:
                self._stats.flagged(flags)
            answer = Answer(
                request=call.ask.request,
                origin=self._origin,
                start=start,
                stop=stop,
                uids=uids,
                outputs=lists,
                arrays=arrays,
                flags=[flag.message for flag in flags],
                extra={"explanations": call.explanations} if call.explanations else {},
            )
            call.answer(call.form.write(answer, call.ask, signature))
            if call.mirror is not None:
                call.mirror(answer.predictions)

    def _write(self, batch: Batch, arrays: Mapping[str, Array], uids: list[str], latency_us: list[int]) -> None:
        """Log the batch, or its part that the endpoint wants logged; after this its answers may leave."""
        desired = batch.calls[0].endpoint.desired
        if desired.log_share < 1.0:
            chosen = [n for n, call in enumerate(batch.calls) if is_logged(call.ask.request, desired.log_share)]
            if not chosen:
                return
            rows = rows_of(batch, chosen)
            arrays = {name: array[rows] for name, array in arrays.items()}
            uids, latency_us = [uids[row] for row in rows.tolist()], [latency_us[n] for n in chosen]
            batch = part(batch, chosen)
        signature, origin = self.predictor.signature, self._origin
        record = PredictionRecord(
            at_us=time.time_ns() // 1000,
            project=self._project,
            endpoint=origin.endpoint,
            revision=origin.revision,
            package=origin.package,
            release=origin.release,
            runtime=batch.runtime,
            requests=[call.ask.request for call in batch.calls],
            rows=[call.ask.rows for call in batch.calls],
            latency_us=latency_us,
            predictions=uids,
            event_time_us=_event_times(batch.calls),
            inputs=self._inputs.pack(batch.given.arrays),
            outputs=self._outputs.pack(arrays),
            roles=[call.role for call in batch.calls] if desired.revisions[1:] else [],
            keys=_hashed_keys(batch.calls),
            primaries=[uid for call in batch.calls for uid in call.primaries],
        )
        self._log.append(record, signature, within_s=desired.durability_s)

    def _refuse(self, call: Call, error: EverlineError) -> None:
        if not call.done:
            self._stats.refused(code=refusal(error).status, reason=error.code)
            call.answer(refusal(error))


def _name(calls: Sequence[Call], rows: int) -> list[str]:
    """Give a name to each request that has none; return the ids of so many predictions."""
    nameless = [call.ask for call in calls if not call.ask.request]
    uids = new_uids(rows + len(nameless))
    for ask in nameless:
        ask.request = uids.pop()
    return uids


def _event_times(calls: Sequence[Call]) -> list[int | None]:
    if not any(call.ask.event_time_us for call in calls):
        return []
    return [moment for call in calls for moment in call.ask.event_time_us or [None] * call.ask.rows]


def is_logged(request: str, share: float) -> bool:
    """Whether a request's rows are logged: always the same ones for the same share."""
    return position(f"log {request}") < share


def _hashed_keys(calls: Sequence[Call]) -> list[str | None]:
    """Whose requests they are, as hashes: the log tells keys apart, and nobody's name stands in it."""
    keys = [call.ask.key for call in calls]
    if not any(keys):
        return []
    return [None if key is None else hashlib.sha256(key.encode()).hexdigest()[:16] for key in keys]


def _too_late() -> UnavailableError:
    return UnavailableError("The request was not answered within its time.", hint="Send fewer rows, or try again.")


def _internal() -> EverlineError:
    return EverlineError("The data plane failed on this request; its log says why.")
