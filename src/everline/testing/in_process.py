"""An httpx client's way into the control plane in this process."""

from __future__ import annotations

import httpx

from everline.sdk.local import InProcess


class InProcessTransport(httpx.BaseTransport):
    """Sends httpx requests to an application of this process."""

    def __init__(self, inside: InProcess) -> None:
        self._inside = inside

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Run one request to its end."""
        answer = self._inside.exchange(
            request.method,
            request.url.raw_path.decode("ascii"),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.raw},
            content=request.read(),
        )
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.content)

    def close(self) -> None:
        """Stop the application."""
        self._inside.close()
