"""The table of runs in a real browser: found, sorted, grouped, kept under a name, selected and compared."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
Open = Callable[..., Page]


def test_the_table_finds_completes_sorts_and_groups_and_its_address_says_so(visit: Open) -> None:
    page = visit("maya", refused=True)
    page.goto("/runs")
    box = page.get_by_role("combobox", name="Filter")
    box.press_sequentially("params.max")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(box).to_have_value("params.max_depth ")
    box.press_sequentially("= 6")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("alert")).to_contain_text("Expected a quoted string")
    expect(page.locator(".fault mark")).to_have_text("6")
    box.fill("2013-06")
    page.keyboard.press("Enter")
    table = page.locator("#runs")
    expect(table.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Clear all").click()
    page.get_by_role("link", name="auc").click()
    expect(page.get_by_role("columnheader", name="auc")).to_have_attribute("aria-sort", "descending")
    expect(page).to_have_url(re.compile(r"sort=metrics.auc\+DESC"))
    page.get_by_label("Group").select_option("pipeline")
    expect(page.get_by_role("region", name="Groups of runs")).to_contain_text("flight_delay:flight_delay")
    page.get_by_role("link", name="flight_delay:flight_delay").click()
    expect(page.get_by_role("link", name="Without: Pipeline flight_delay:flight_delay")).to_be_visible()
    expect(table.locator("tbody tr")).to_have_count(2)


def test_columns_are_chosen_in_an_order_and_the_look_is_kept_under_a_name(visit: Open) -> None:
    page = visit("maya")
    page.goto("/runs")
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Find a metric, parameter or tag").fill("commit")
    page.keyboard.press("Enter")
    page.get_by_label("Find a metric, parameter or tag").fill("")
    page.get_by_role("button", name="Pipeline earlier").click()
    page.get_by_role("button", name="Show these").click()
    heads = page.locator("#runs thead th")
    expect(heads.nth(2)).to_have_text("Pipeline")
    expect(page.get_by_role("columnheader", name="Commit")).to_be_visible()
    page.locator("summary", has_text="Views").click()
    page.get_by_label("Save what you see as").fill("by pipeline")
    page.get_by_role("button", name="Save view").click()
    expect(page.get_by_role("heading", name="by pipeline")).to_be_visible()
    page.goto("/runs")
    page.locator("summary", has_text="Views").click()
    page.get_by_role("link", name="by pipeline").click()
    expect(heads.nth(2)).to_have_text("Pipeline")
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("summary", has_text="Views").click()
    page.get_by_role("button", name="Delete the view by pipeline").click()
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_the_csv_holds_the_columns_that_are_shown(site, cookies: dict[str, str]) -> None:
    with httpx.Client(base_url=site.url, cookies={"everline_session": cookies["ines"]}) as browser:
        shown = browser.get("/runs.csv?col=metrics.auc&col=params.max_depth&sort=attributes.run_name")
        refused = browser.get("/runs?col=colour")
    lines = shown.text.splitlines()
    assert lines[0] == "run,name,metrics.auc,params.max_depth"
    rows = [line.split(",")[1:] for line in lines[1:]]
    # Other tests may have left runs of their own.
    assert [row for row in rows if row[0].startswith("flight_delay 2013")] == [
        ["flight_delay 2013-03", "0.731", "6"],
        ["flight_delay 2013-06", "0.731", "6"],
    ]
    assert (refused.status_code, "no column" in refused.text) == (400, True)


def test_selected_runs_are_compared_and_a_brush_keeps_what_passes(visit: Open) -> None:
    page = visit("maya")
    page.goto("/runs")
    for box in page.get_by_role("checkbox", name=re.compile("Select flight_delay")).all():
        box.check()
    expect(page.get_by_role("region", name="Selected runs")).to_contain_text("2 selected")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="2 runs compared")).to_be_visible()
    expect(page.get_by_role("region", name="Code")).to_contain_text("Both runs have the same source files")
    page.get_by_role("link", name="Show what is the same, too").click()
    expect(page.get_by_role("region", name="Metrics").get_by_role("row", name="auc")).to_contain_text("0.731")
    expect(page.get_by_role("region", name="Environment").get_by_role("row", name="numpy")).to_be_visible()
    page.get_by_role("region", name="Scatter").scroll_into_view_if_needed()
    expect(page.locator('[data-scatter][data-drawn="yes"]')).to_be_visible()
    picture = page.locator("svg.parallel")
    picture.scroll_into_view_if_needed()
    area = page.locator(".brush-area").first
    area.scroll_into_view_if_needed()
    where = area.bounding_box()
    assert where is not None
    page.mouse.move(where["x"] + 14, where["y"] + 2)
    page.mouse.down()
    page.mouse.move(where["x"] + 14, where["y"] + 20)
    page.mouse.up()
    expect(picture.locator(".lines .dim")).not_to_have_count(0)
    area.click()
    expect(picture.locator(".lines .dim")).to_have_count(0)
