"""The gate in the browser: a rule waived, an emergency seen, a past moment, a log held against a kept root."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from everline.access.types import LOCAL
from everline.governance import audit
from everline.releases import breakglass, service
from everline.releases.types import Plan
from tests_support.registry import attest, register

Open = Callable[..., Page]
WEAK = {"metrics": {"auc": 0.58, "calibration_error": 0.02}, "slices": []}


def open_release(site, content: bytes, **evidence: object) -> str:
    with site.app.begin(LOCAL) as uow:
        made = register(uow, content, model="gate")
        attest(uow, made, **evidence)
        return service.create(
            uow, project="default", endpoint="gate", model="gate", version=made.version, plan=Plan(canary_share=0.0)
        ).uid


def test_a_rule_is_waived_approved_in_a_capacity_and_found_again_in_what_was_live(site, visit: Open) -> None:
    uid = open_release(site, b"first", evaluation=WEAK)
    page = visit("ravi")
    page.goto(f"/releases/{uid}")
    expect(page.get_by_text("evaluation.metrics.auc = 0.58")).to_be_visible()
    waive = page.get_by_role("region", name="Waive a rule")
    expect(waive.get_by_label("Rule that is not met")).to_have_value("baseline/tested")
    waive.get_by_label("Why that is safe for a while").fill("The metric is under review.")
    waive.get_by_label("Who answers for mending it").fill("maya")
    waive.get_by_role("button", name="Waive for this release").click()
    expect(page.get_by_role("status")).to_contain_text("set aside")
    expect(page.get_by_text(re.compile("Waived by ravi until .* The metric is under review"))).to_be_visible()
    page.get_by_label("In the capacity of").select_option("validator")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("region", name="Approvals")).to_contain_text("ravi as validator")
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_role("status")).to_contain_text("answers everything")
    page.goto("/releases")
    page.get_by_role("link", name="What was live").click()
    live = page.get_by_role("region", name="gate, primary")
    expect(live).to_contain_text("gate, version 1")
    expect(live.get_by_role("row", name="waiver of baseline/tested")).to_contain_text("The metric is under review.")
    expect(live.get_by_role("row", name="approve as validator")).to_contain_text("ravi")
    page.get_by_label("Time, UTC").fill("2020-01-01")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Nothing was live then")).to_be_visible()


def test_broken_glass_is_seen_by_everybody_until_it_is_reviewed(site, visit: Open) -> None:
    uid = open_release(site, b"second", lineage=None)
    page = visit("ravi")
    page.goto(f"/releases/{uid}")
    page.get_by_text("Emergency", exact=True).click()
    page.get_by_label("What makes it an emergency").fill("Wrong answers since midnight.")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Break the glass").click()
    expect(page.get_by_role("alert")).to_contain_text("The glass of gate is broken by this release")
    expect(page.get_by_text("Glass broken by ravi")).to_be_visible()
    follower = open_release(site, b"third")
    page.goto(f"/releases/{follower}")
    expect(page.get_by_role("alert")).to_contain_text("Nothing else is released to this endpoint")
    refused = visit("ravi", refused=True)
    refused.goto(f"/releases/{follower}")
    refused.get_by_label("What was found").fill("All fine.")
    refused.get_by_role("button", name="Close the review").click()
    expect(refused.get_by_text("four eyes are needed").first).to_be_visible()
    with site.app.begin(LOCAL) as uow:
        (review,) = breakglass.list_reviews(uow, project="default", endpoint="gate", open_only=True)
        breakglass.close_review(uow, review.uid, finding="mended")
    page.reload()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_policies_show_each_rule_with_its_source_and_the_log_continues_a_kept_checkpoint(site, visit: Open) -> None:
    with site.app.begin(LOCAL) as uow:
        kept = audit.latest_checkpoint(uow, fresh=True).note
        audit.record(uow, "server.note", subject="server:test", project="*")
    page = visit("ines")
    page.goto("/policies")
    expect(page.get_by_role("region", name="Policy baseline")).to_contain_text("in force")
    pack = page.get_by_role("region", name="Pack fair-lending")
    pack.get_by_text("6 rules").click()
    expect(pack.get_by_role("row", name="four-fifths")).to_contain_text("29 CFR 1607.4(D)")
    page.goto("/audit")
    page.get_by_text("Does the log continue a checkpoint that I kept?").click()
    page.get_by_label("Checkpoint, as it was printed").fill(kept)
    page.get_by_role("button", name="Prove it").click()
    expect(page.get_by_role("status")).to_contain_text("continues the one of")
    page.get_by_text("Does the log continue a checkpoint that I kept?").click()
    page.get_by_label("Checkpoint, as it was printed").fill(kept.replace("\n", "\nx", 1))
    page.get_by_role("button", name="Prove it").click()
    expect(page.get_by_role("status")).to_contain_text("No proof")
