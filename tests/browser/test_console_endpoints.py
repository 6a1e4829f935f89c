"""An endpoint in a real browser: traffic is split with a slider, and keys are made and ended."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from everline.access import service as access
from everline.access.types import Actor, Role
from everline.releases import rollout
from everline.releases import service as releases
from everline.releases.types import Plan

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
SOON = 15_000


@pytest.fixture
def fares(site: Any) -> str:
    """An endpoint of our own with a canary of 10 %; the canary's release."""
    with site.app.begin() as uow:
        uids = {user.name: user.uid for user in access.list_users(uow)}
    maya, ravi = (
        Actor(uid=uids[name], name=name, roles={"default": frozenset({role})})
        for name, role in (("maya", Role.CONTRIBUTOR), ("ravi", Role.APPROVER))
    )

    def released(version: int) -> str:
        with site.app.begin(maya) as uow:
            opened = releases.create(
                uow, project="default", endpoint="fares", model="flight-delay", version=version,
                plan=Plan(canary_share=0.1),
            )  # fmt: skip
        with site.app.begin(ravi) as uow:
            releases.approve(uow, opened.uid)
        return opened.uid

    first = released(1)
    with site.app.begin(ravi) as uow:
        rollout.promote(uow, first)
    second = released(2)
    with site.app.begin(ravi) as uow:
        rollout.start_canary(uow, second)
    return second


def test_traffic_is_split_with_a_slider_and_keys_are_made_and_ended(fares: str, visit: Open) -> None:
    page = visit("ravi")
    page.goto("/endpoints/fares")
    slider = page.get_by_label("Canary, version 2")
    expect(slider).to_have_value("10")
    slider.fill("25")
    expect(page.locator("#percent-now")).to_have_text("25 %")
    page.get_by_role("button", name="Move traffic").click()
    expect(page).to_have_url(re.compile(f"/releases/{fares}"), timeout=SOON)
    expect(page.get_by_role("region", name="History")).to_contain_text("0.25 of the requests by hand", timeout=SOON)
    page.goto("/endpoints/fares")
    expect(page.get_by_role("region", name="Traffic")).to_contain_text("25")
    page.get_by_role("link", name="compare revisions").click()
    expect(page.get_by_role("region", name="Canary and primary")).to_contain_text("of at least 30")
    expect(page.get_by_role("region", name="Shadow")).to_contain_text("No shadow now")

    page = visit("maya")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto("/endpoints/fares")
    page.get_by_role("link", name="API keys").click()
    page.get_by_label("Whose, or what for").fill("booking")
    page.get_by_label("Requests per second").fill("5")
    page.get_by_role("button", name="Make it").click()
    shown = page.get_by_role("status").locator("code").first
    expect(shown).to_have_text(re.compile(r"evk_[\w-]{43}"), timeout=SOON)
    secret = shown.inner_text()
    page.get_by_role("button", name="Ask for a key").click()
    expect(page.get_by_role("main")).to_contain_text("Only who has one of these keys", timeout=SOON)
    expect(page.get_by_text(secret)).to_have_count(0)
    page.get_by_role("button", name="Revoke booking").click()
    expect(page.get_by_role("region", name="Keys", exact=True)).to_contain_text("revoked", timeout=SOON)
