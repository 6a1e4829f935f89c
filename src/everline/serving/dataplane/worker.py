"""The one thread in which models answer, and the bounded queue before it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from everline.errors import UnavailableError
from everline.models.package import Predictor
from everline.models.signature import Array, Checked


class Worker:
    """Keeps the event loop free while a model answers; one request at a time, all its rows at once."""

    def __init__(self, *, requests_max: int, request_s: float) -> None:
        self._requests_max = requests_max
        self._request_s = request_s
        self._at_hand = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="predict")

    async def predict(self, predictor: Predictor, call: Checked) -> dict[str, Array]:
        """Answer a checked call.

        Raises:
            UnavailableError: too many requests are at hand, or the answer took too long.
        """
        if self._at_hand >= self._requests_max:
            raise UnavailableError(
                f"{self._at_hand} requests are at hand, which is the limit.", hint="Try again in a second."
            )
        self._at_hand += 1
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(self._request_s):
                return await loop.run_in_executor(self._executor, predictor.predict_checked, call)
        except TimeoutError:
            raise UnavailableError(
                f"The model did not answer within {self._request_s:g} s.", hint="Send fewer rows, or try again."
            ) from None
        finally:
            self._at_hand -= 1

    def close(self) -> None:
        """End the thread; what it has not begun is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)
