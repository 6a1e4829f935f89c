"""Data and rebuilds as pictures: versions, profile, lineage, differences, tags, and a certificate to take away."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from playwright.sync_api import Page, expect

from everline.cli.app import run as everline
from everline.datasets import contracts
from everline.datasets.types import Contract
from everline.governance.signing import server_key
from tests_support import console_story

pytestmark = pytest.mark.browser
Open = Callable[..., Page]


def drawn(page: Page, count: int) -> None:
    """Every chart of the page is drawn, and there are so many."""
    expect(page.locator('[data-chart][data-drawn="yes"]')).to_have_count(count)


def test_two_versions_are_chosen_and_every_shift_is_a_picture_with_its_number(visit: Open) -> None:
    page = visit("maya")
    page.goto("/datasets/flights")
    drawn(page, 2)
    page.get_by_role("combobox", name=re.compile("^From")).select_option("1")
    page.get_by_role("combobox", name=re.compile("^to")).select_option("3")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page).to_have_url(re.compile(r"/datasets/flights/compare\?before=1&after=3$"))
    drawn(page, 4)  # of five columns the days are the same
    row = page.get_by_role("region", name="Columns").get_by_role("row", name="carrier")
    expect(row).to_contain_text(re.compile(r"0\.\d+ tv"))
    expect(
        page.get_by_role("img", name=re.compile("distance, version 1 and version 3.*furthest apart"))
    ).to_be_visible()
    page.get_by_label("Rows by key").fill("day, hour")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("not unique")
    drawn(page, 4)


def test_rows_are_shown_by_the_key_that_the_contract_promises(
    site, visit: Open, tmp_path: Path, pictures: Path | None
) -> None:
    first = pa.table({"station": ["EWR", "JFK", "LGA"], "height": [5, 4, 6], "note": ["", "<i>sea</i>", ""]})
    second = pa.table({"station": ["EWR", "JFK", "HPN"], "height": [5, 40, 134], "note": ["", "<i>sea</i>", "new"]})
    with site.app.begin() as uow:
        for table in (first, second):
            console_story.add_dataset(site.app, uow, "stations", table, tmp_path)
        contracts.set_contract(uow, "default", "stations", Contract(owner="weather office", key=["station"]))
    page = visit("maya")
    page.goto("/datasets/stations")
    expect(page.get_by_role("row", name="version 2")).to_contain_text("kept")
    page.get_by_role("link", name="Compare the last two").click()
    page.get_by_role("link", name="Use the contract's key").click()
    rows = page.get_by_role("region", name="Rows")
    expect(rows).to_contain_text(re.compile(r"1\s*unchanged\s*1\s*changed\s*1\s*added\s*1\s*removed"))
    expect(rows.get_by_role("row", name="changed JFK")).to_contain_text(re.compile(r"height\s*4\s*40"))
    expect(rows.get_by_role("row", name="added HPN")).to_contain_text("134")
    expect(rows.get_by_role("row", name="removed LGA")).to_contain_text("6")
    if pictures:
        page.screenshot(path=pictures / "dataset-rows-1280-light.png", full_page=True)


def test_a_version_shows_what_its_columns_hold_and_the_models_that_stand_on_it(visit: Open) -> None:
    page = visit("maya")
    page.goto("/datasets/flights/2")
    profile = page.get_by_role("region", name="Profile")
    expect(profile.get_by_role("img", name=re.compile("Spread of distance: half of the values"))).to_be_visible()
    expect(profile.get_by_role("row", name="carrier")).to_contain_text(re.compile(r"(AA|B6|DL|EV|MQ|UA|US|WN) *1\d %"))
    page.locator("svg.broad").get_by_role("link", name=re.compile("model version 2")).click()
    expect(page).to_have_url(re.compile("/models/flight-delay/2$"))


def test_a_tag_is_set_found_and_removed(visit: Open) -> None:
    page = visit("maya")
    page.goto("/datasets/weather")
    page.get_by_text("Set a tag").click()
    page.get_by_label("Key").fill("source")
    page.get_by_label("Value").fill("<b>NOAA</b> & co")
    page.get_by_role("button", name="Set", exact=True).click()
    page.get_by_role("link", name="source <b>NOAA</b> & co").click()
    rows = page.get_by_role("region", name="Datasets").get_by_role("rowheader")
    expect(rows).to_have_text(["weather"])
    rows.get_by_role("link").click()
    page.get_by_role("button", name="Remove the tag source").click()
    expect(page.get_by_role("region", name="Tags")).to_contain_text("None were set")


def test_a_certificate_says_where_a_rebuild_left_the_record_and_verifies_offline(
    site, visit: Open, tmp_path: Path
) -> None:
    page = visit("ravi")
    page.goto(f"/runs/{site.story.run}")
    page.get_by_role("region", name="Record").get_by_role("link", name="diverged").click()
    expect(page.get_by_role("heading", name="Levels")).to_be_visible()
    rungs = page.locator(".ladder li")
    assert [text.split()[0] for text in rungs.all_inner_texts()] == ["L6", "L5", "L4", "L3", "L2", "L1", "L0"]
    expect(page.locator('.ladder [aria-current="true"]')).to_contain_text("Rebuildable")
    expect(rungs.nth(4)).to_contain_text("not the recorded dataset versions")
    expect(page.get_by_text("First difference: data, at step join")).to_be_visible()
    expect(page.get_by_role("row", name="join")).to_contain_text("differs")
    expect(page.get_by_text("signature verified").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the envelope").click()
    file = tmp_path / "certificate.json"
    download.value.save_as(file)
    key = server_key(site.app.settings).public_text
    check = ["audit", "verify", "--certificate", str(file), "--key", key]
    assert everline(check) == 0
    altered = json.loads(file.read_text())
    payload = altered["payload"]
    altered["payload"] = payload[:40] + ("A" if payload[40] != "A" else "B") + payload[41:]
    file.write_text(json.dumps(altered))
    assert everline(check) == 1


def test_who_may_not_see_the_project_gets_no_envelope(site) -> None:
    answer = httpx.get(f"{site.url}/certificates/{site.story.certificate}/envelope")
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login")


def test_an_explanation_is_a_waterfall_with_intervals(site, visit: Open) -> None:
    page = visit("maya")
    page.goto(f"/certificates/{site.story.explanation}")
    table = page.get_by_role("region", name="What moved log_loss")
    expect(table.get_by_role("row", name="data flights")).to_contain_text("-0.05")
    expect(table.get_by_role("row", name="code")).to_contain_text("+0.014 to +0.026")
    boxes = [bar.bounding_box() for bar in table.locator("rect").all()]
    ends = [line.bounding_box() for line in table.locator("line.end").all()]
    # Each bar stands where the one before it ends: out, back, out again, and so to the later metric.
    evaluation, data, code, _seed = boxes
    assert abs(evaluation["x"] - ends[0]["x"]) < 3
    assert abs(data["x"] + data["width"] - (evaluation["x"] + evaluation["width"])) < 3
    assert abs(code["x"] - data["x"]) < 3
    assert abs(ends[1]["x"] - (code["x"] + code["width"])) < 8
    expect(page.get_by_role("link", name="flight_delay 2013-06")).to_be_visible()
