"""One delivery over HTTP. Loaded late: the HTTP client is heavy, and a process that delivers nothing never needs it."""

from __future__ import annotations

import time
from typing import NamedTuple

import httpx

from everline.config import Settings
from everline.errors import UnavailableError
from everline.webhooks.addresses import address_of, check_url
from everline.webhooks.bodies import signature
from everline.webhooks.types import Target

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which a delivery is tried again; any other refusal is final."""

_ANSWER_BYTES_MAX = 16 * 1024


class Answer(NamedTuple):
    """What the receiver said."""

    status: int
    body: str

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has it."""
        return self.status < 300


def send(target: Target, *, delivery: str, body: str, settings: Settings) -> Answer:
    """Post one delivery; redirects are not followed and no proxy is used.

    Raises:
        UnavailableError: the receiver cannot be reached or does not answer in time.
        ForbiddenError: its address is not public.
    """
    check_url(target.url, private=settings.webhook_private)
    url = httpx.URL(target.url)
    timestamp = str(int(time.time()))
    headers = {
        "Host": url.netloc.decode(),
        "Content-Type": "application/json",
        "User-Agent": "everline-webhook",
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": timestamp,
    }
    if target.secret:
        signed = signature(target.secret, delivery=delivery, timestamp=timestamp, body=body)
        headers["X-MLflow-Signature"] = signed
    port = url.port or (443 if url.scheme == "https" else 80)
    address = address_of(url.host, port, private=settings.webhook_private)
    try:
        with httpx.Client(trust_env=False, follow_redirects=False, timeout=settings.webhook_s) as client:
            request = client.build_request(
                "POST",
                url.copy_with(host=address),
                content=body.encode(),
                headers=headers,
                extensions={"sni_hostname": url.host},
            )
            return _read(client.send(request, stream=True), deadline=time.monotonic() + settings.webhook_s)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(f"The receiver did not answer: {type(error).__name__}: {error}.") from None


def _read(response: httpx.Response, *, deadline: float) -> Answer:
    content = b""
    try:
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) >= _ANSWER_BYTES_MAX or time.monotonic() > deadline:
                break
    finally:
        response.close()
    return Answer(response.status_code, content[:_ANSWER_BYTES_MAX].decode("utf-8", "replace"))
