"""The plain form, for people and for programs that want no protocol: one JSON object per row, or a list of them.

    {"distance": 1400, "hour": 18, "carrier": "AA"}
    {"prediction": "01a2…", "outputs": {"probability": 0.957, "label": true}}

An object is answered by an object, a list by a list. Rows that have exactly the signature's columns and types are read
into a type made for that signature, which is the fastest way in.
"""

from __future__ import annotations

from typing import Any

import msgspec

from everline.errors import InvalidInputError
from everline.models.signature import Signature
from everline.serving.dataplane.forms.ask import (
    Answer,
    Ask,
    Column,
    Form,
    check_rows,
    count_rows,
    decode,
    event_times,
    named_by,
    request_id,
)
from everline.serving.dataplane.forms.invocations import columns_of
from everline.serving.dataplane.http.messages import Reply, Request
from everline.serving.dataplane.plan import Plan, UnfitError

_decoder = msgspec.json.Decoder(dict[str, Any] | list[Any])
_encoder = msgspec.json.Encoder()


def read(request: Request, plan: Plan, rows_max: int) -> Ask:
    """Read a request.

    Raises:
        InvalidInputError: it is neither an object nor a list of objects with the same names.
        TooLargeError: more rows than `rows_max`.
    """
    columns: dict[str, Column] = {}
    try:
        table, single = plan.read_rows(request.body)
    except UnfitError:
        table = None
        columns, single = _plainly(request.body, plan.names)
    rows = count_rows(columns, rows_max=rows_max) if table is None else check_rows(len(table), rows_max=rows_max)
    return Ask(
        request=request_id(named_by(request)),
        columns=columns,
        table=table,
        rows=rows,
        event_time_us=event_times(None, request, rows),
        typed=table is not None,
        single=single,
    )


def write(answer: Answer, ask: Ask, signature: Signature) -> Reply:
    """Write an answer; who answered stands in the headers."""
    said = [
        {
            "prediction": answer.uids[row],
            "outputs": {name: values[row] for name, values in answer.outputs.items()},
        }
        for row in range(answer.start, answer.stop)
    ]
    if answer.flags or answer.extra:
        said[0] |= {**({"flags": answer.flags} if answer.flags else {}), **answer.extra}
    return Reply(200, _encoder.encode(said[0] if ask.single else said), answer.header_lines())


FORM = Form(read, write)


def _plainly(body: bytes, names: list[str]) -> tuple[dict[str, Column], bool]:
    given = decode(_decoder, body)
    rows = [given] if isinstance(given, dict) else given
    if set(map(type, rows)) - {dict}:
        raise InvalidInputError(
            "The body must be an object per row, or a list of objects.",
            hint=f"Send objects with the columns: {', '.join(names)[:1000]}.",
        )
    return columns_of(rows, names, form="the list"), isinstance(given, dict)
