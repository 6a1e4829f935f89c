"""The one thread in which models answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from everline.errors import UnavailableError
from everline.models.package import Predictor
from everline.models.signature import Array, Checked


class Worker:
    """Keeps the event loop free while a model answers; one request at a time, all its rows at once."""

    def __init__(self, *, request_s: float) -> None:
        self._request_s = request_s
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="predict")

    async def predict(self, predictor: Predictor, call: Checked) -> dict[str, Array]:
        """Answer a checked call.

        Raises:
            UnavailableError: the answer took too long.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._request_s):
                return await loop.run_in_executor(self._executor, predictor.predict_checked, call)
        except TimeoutError:
            raise UnavailableError(
                f"The model did not answer within {self._request_s:g} s.", hint="Send fewer rows, or try again."
            ) from None

    def close(self) -> None:
        """End the thread; what it has not begun is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)
