"""A real server with login and a story in it, and a real Chromium that may talk to nobody else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from everline.config import Settings
from everline.server.application import Application
from tests_support import chromium, console_story

START_S_MAX = 30


class Site(msgspec.Struct, kw_only=True):
    """The server under test."""

    url: str
    app: Application
    """The same home, opened here too: what a data plane or a colleague does meanwhile."""
    story: console_story.Story


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A control plane in a process of its own, over a home that the story has filled."""
    home = tmp_path_factory.mktemp("console")
    app = Application(Settings(home=home / "home", worker=False))
    story = console_story.tell(app, home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "everline", "server", "--login", "--port", str(port), "--home", str(home / "home")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EVERLINE_")}
    process = subprocess.Popen(command, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process)
        yield Site(url=url, app=app, story=story)
    finally:
        process.terminate()
        process.wait(30)
        app.close()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + START_S_MAX
    while time.monotonic() < ends and process.poll() is None:
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"the server was not ready within {START_S_MAX} s")


@pytest.fixture(scope="session")
def chrome() -> Iterator[Browser]:
    """Chromium, without a word to its maker."""
    executable = chromium.find_executable()
    if executable is None:
        pytest.fail("These tests drive Chromium: `apt-get install chromium`, or name one in EVERLINE_TEST_CHROMIUM.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=chromium.ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def cookies(site: Site) -> dict[str, str]:
    """A session cookie of each person: logging in is slow on purpose."""
    found = {}
    for name in ("maya", "ravi", "ines"):
        answer = httpx.post(f"{site.url}/login", data={"name": name, "password": console_story.PASSWORD})
        found[name] = answer.cookies["everline_session"]
    return found


Open = Callable[..., Page]


@pytest.fixture
def visit(site: Site, chrome: Browser, cookies: dict[str, str]) -> Iterator[Open]:
    """`visit("ravi")` opens a window of ravi's; whatever goes wrong in any window fails the test at its end."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def window(person: str | None, *, width: int = 1280, dark: bool = False, refused: bool = False) -> Page:
        context = chrome.new_context(
            base_url=site.url, viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        if person is not None:
            context.add_cookies([{"name": "everline_session", "value": cookies[person], "url": site.url}])
        page = context.new_page()
        page.set_default_timeout(10_000)

        def said(kind: str, text: str) -> None:
            # A page that is answered with a refusal is a line in Chromium's console too.
            if kind == "error" and not (refused and "Failed to load resource" in text):
                wrong.append(f"console: {text}")

        def asked(address: str) -> None:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https") and parts.netloc != urlsplit(site.url).netloc:
                wrong.append(f"request to another host: {address}")

        page.on("console", lambda message: said(message.type, message.text))
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on("request", lambda request: asked(request.url))
        return page

    yield window
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="session")
def pictures() -> Path | None:
    """Where to leave pictures of the pages, for people to look at; None unless asked for."""
    folder = os.environ.get("EVERLINE_TEST_PICTURES")
    return Path(folder) if folder else None
