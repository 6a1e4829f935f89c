"""The log's side of the C2SP witness protocol."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from everline.errors import IntegrityError, UnavailableError
from everline.governance.witness import SIZE_TYPE, write_request
from everline.ids import whole_number

_TRIES = 3
_TIMEOUT_S = 30.0
_ANSWER_CHARS_MAX = 64 * 1024

Prove = Callable[[int, int], list[str]]


def add_checkpoint(url: str, note: str, size: int, *, prove: Prove) -> str:
    """Have a witness cosign a checkpoint; return its signature lines.

    Args:
        size: of the checkpoint.
        prove: gives the consistency proof from one size to another, as hexadecimal hashes.

    Raises:
        UnavailableError: the witness does not answer, or not as the protocol has it.
        IntegrityError: it says that this log does not continue what it saw before, or does not know the log.
    """
    old = 0
    for _ in range(_TRIES):
        path = [bytes.fromhex(value) for value in prove(old, size)] if 0 < old < size else []
        try:
            answer = httpx.post(
                f"{url.rstrip('/')}/add-checkpoint", content=write_request(old=old, path=path, note=note),
                timeout=_TIMEOUT_S,
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise UnavailableError(f"The witness {url} does not answer: {error}.") from error
        text = answer.text[:_ANSWER_CHARS_MAX]
        if answer.status_code == 200:
            return text
        known = whole_number(text.strip())
        if answer.status_code == 409 and answer.headers.get("content-type", "").startswith(SIZE_TYPE) and (
            known is not None and known != old
        ):  # fmt: skip
            if known > size:
                raise IntegrityError(
                    f"The witness has seen {known} events of this log, which has {size} now: it was rolled back.",
                    hint="Restore the newest backup; do not go on with this one.",
                )
            old = known
            continue
        raise IntegrityError(
            f"The witness {url} refuses the log ({answer.status_code}): {text.strip()[:300]}",
            hint="404: it does not know the log; 403: nor its key; 409 or 422: the log does not continue what it saw.",
        )
    raise UnavailableError(f"The witness {url} changes its mind about the size that it saw last.")
