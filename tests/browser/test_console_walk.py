"""A walk through the console: the story that the pages tell, and what a person can do on them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests_support import console_story

pytestmark = pytest.mark.browser
Open = Callable[..., Page]


def addresses(story: console_story.Story) -> dict[str, str]:
    """Every page of the console, by a name for its picture."""
    return {
        "overview": "/",
        "runs": "/runs",
        "runs-groups": "/runs?group=params.max_depth",
        "runs-compared": f"/runs/compare?runs={story.run},{story.again}&all=1",
        "run": f"/runs/{story.run}",
        "run-steps": f"/runs/{story.run}/steps",
        "run-step": f"/runs/{story.run}/steps/{story.step}",
        "pipelines": "/pipelines",
        "pipeline": "/pipelines/flight_delay:flight_delay",
        "approvals": "/approvals",
        "run-metrics": f"/runs/{story.run}/metrics",
        "run-artifacts": f"/runs/{story.run}/artifacts?path=predictions.parquet",
        "run-code": f"/runs/{story.run}/code?file=flight_delay.py",
        "run-environment": f"/runs/{story.run}/environment",
        "models": "/models",
        "model": "/models/flight-delay",
        "version": "/models/flight-delay/2",
        "alias": "/models/flight-delay/aliases/candidate",
        "releases": "/releases",
        "live": "/releases/at",
        "policies": "/policies",
        "release": f"/releases/{story.waiting}",
        "release-live": f"/releases/{story.live}",
        "endpoints": "/endpoints",
        "endpoint": "/endpoints/flight-delay",
        "prediction": f"/predictions/{story.prediction}",
        "incidents": "/incidents",
        "incident": f"/incidents/{story.incident}",
        "datasets": "/datasets",
        "dataset": "/datasets/flights",
        "dataset-version": "/datasets/flights/1",
        "dataset-compared": "/datasets/flights/compare?before=1&after=3&key=day,hour",
        "delivery": "/delivery",
        "delivery-applied": f"/delivery/{story.delivery}",
        "certificates": "/certificates",
        "certificate": f"/certificates/{story.certificate}",
        "explanation": f"/certificates/{story.explanation}",
        "audit": "/audit",
        "event": "/audit/3",
    }


def drawn(page: Page) -> int:
    """How many charts the page has, once all of them are drawn."""
    charts = page.locator("[data-chart]")
    expect(page.locator('[data-chart][data-drawn="yes"]')).to_have_count(charts.count())
    return charts.count()


def test_a_stranger_is_asked_to_log_in_and_then_sees_the_page_that_was_asked_for(site, visit: Open) -> None:
    page = visit(None, refused=True)
    page.goto(f"/releases/{site.story.live}")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.get_by_label("Name").fill("maya")
    page.get_by_label("Password").fill("not her password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("do not match")
    page.get_by_label("Password").fill(console_story.PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{site.url}/releases/{site.story.live}")
    cookie = next(one for one in page.context.cookies() if one["name"] == "everline_session")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto("/")
    expect(page).to_have_url(re.compile(r"/login\?next="))


def test_the_overview_says_what_is_live_and_what_waits(site, visit: Open) -> None:
    page = visit("ravi")
    page.goto("/")
    for goal in ("Deployment", "Reproducibility", "Monitoring", "Governance", "Collaboration"):
        expect(page.get_by_role("heading", name=goal)).to_be_visible()
    expect(page.get_by_text("flight-delay, version 1, answers at flight-delay")).to_be_visible()
    page.get_by_role("link", name="flight-delay, version 2, waits for approval to reach flight-delay").click()
    expect(page).to_have_url(f"{site.url}/releases/{site.story.waiting}")


def test_a_run_shows_its_steps_curves_and_record(site, visit: Open) -> None:
    page = visit("maya")
    page.goto("/runs")
    page.get_by_role("link", name="flight_delay 2013-03").click()
    expect(page.locator("svg.broad .state-cached")).to_have_count(2)
    expect(page.get_by_text("6 steps, 2 of them from the cache.")).to_be_visible()
    expect(page.get_by_role("row", name="train_log_loss")).to_contain_text("0.7")  # the greatest of its values
    expect(page.get_by_text("installed distributions, by digest")).to_be_visible()
    page.get_by_text("Describe this run").click()
    page.get_by_role("textbox", name="Description").fill("Trained on **three** months.\n\n<script>alert(1)</script>")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("strong", has_text="three")).to_be_visible()
    expect(page.get_by_text("<script>alert(1)</script>").first).to_be_visible()
    page.get_by_role("link", name="flights, version 1").click()
    expect(page.get_by_role("row", name="distance")).to_contain_text("float64")
    expect(page.get_by_role("region", name="Used by").get_by_role("link", name="flight_delay 2013-06")).to_be_visible()


def test_curves_are_drawn_when_seen_and_as_the_reader_chose(site, visit: Open) -> None:
    page = visit("maya")
    page.goto(f"/runs/{site.story.run}/metrics?smooth=0.5")
    expect(page.locator('[data-curves][data-drawn="yes"]')).to_have_count(1)
    expect(page.get_by_text("Measured once")).to_be_visible()
    expect(page.get_by_label("Smoothing")).to_have_value("0.5")
    page.get_by_label("Horizontal").select_option("relative")
    page.get_by_label("Log scale").check()
    expect(page).to_have_url(re.compile(r"smooth=0.5.*x=relative.*log=1"))
    page.get_by_text("Data as a table").click()
    expect(page.locator(".chart-data th").first).to_have_text("seconds")
    page.get_by_label("Horizontal").select_option("step")
    expect(page.locator(".chart-data tbody tr")).to_have_count(40)
    page.get_by_label("Metric").fill("log TRAIN")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("1 of 4 metrics match")).to_be_visible()
    expect(page.get_by_label("Smoothing")).to_have_value("0.5")


def test_files_are_previewed_and_a_page_among_them_runs_nothing(site, visit: Open) -> None:
    page = visit("maya")
    page.goto(f"/runs/{site.story.run}/artifacts")
    page.get_by_role("link", name="plots").click()
    page.get_by_role("link", name="confusion.png").click()
    picture = page.get_by_role("img", name="confusion.png")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 48
    page.get_by_role("link", name="All files").click()
    page.get_by_role("link", name="predictions.parquet").click()
    expect(page.get_by_text("The first 100 of 300 rows")).to_be_visible()
    page.get_by_role("link", name="report.html").click()
    expect(page.get_by_text("document.title = 'taken over'")).to_be_visible()
    assert "taken over" not in page.title()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "report.html"
    page.get_by_role("link", name="Code").click()
    page.get_by_role("link", name="flight_delay.py").click()
    expect(page.get_by_role("region", name="Text")).to_contain_text("def flight_delay()")
    page.get_by_role("link", name="Environment").click()
    page.get_by_role("searchbox", name="Package").fill("numpy")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("row", name="numpy").first).to_be_visible()


def test_addresses_of_mlflows_own_interface_lead_to_our_pages(site, visit: Open) -> None:
    page = visit("maya")
    page.goto(f"/#/experiments/1/runs/{site.story.run}")
    expect(page).to_have_url(f"{site.url}/runs/{site.story.run}")
    page.goto("/#/models/flight-delay/versions/2")
    expect(page).to_have_url(f"{site.url}/models/flight-delay/2")


def test_a_version_leads_from_data_to_its_release(site, visit: Open) -> None:
    page = visit("maya")
    page.goto("/models/flight-delay/2")
    assert drawn(page) == 1
    expect(page.get_by_text("Error rate by carrier")).to_be_visible()
    expect(page.get_by_role("heading", name="Compared with version 1")).to_be_visible()
    expect(page.get_by_text("signature verified")).to_be_visible()
    expect(page.get_by_role("heading", name="Intended use")).to_be_visible()
    lineage = page.locator("svg.broad")
    for text in ("weather", "flight_delay 2013", "version 2", "awaiting approval"):
        expect(lineage).to_contain_text(text)
    lineage.get_by_role("link", name=re.compile("awaiting approval")).click()
    expect(page).to_have_url(f"{site.url}/releases/{site.story.waiting}")


def test_a_prediction_names_everything_behind_it(site, visit: Open) -> None:
    page = visit("maya")
    page.goto("/endpoints/flight-delay")
    page.get_by_role("region", name="Latest predictions").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name=re.compile("Prediction …"))).to_be_visible()
    expect(page.locator("svg.broad")).to_contain_text("promoted")
    expect(page.get_by_role("row", name="carrier")).to_contain_text(re.compile("AA|B6|DL|EV|MQ|UA|US|WN"))
    page.get_by_role("link", name="Say what each input contributed").click()
    why = page.get_by_role("region", name="Why this answer")
    expect(why).to_contain_text("the inputs lead to")
    expect(why.locator("canvas, svg").first).to_be_visible()


def test_the_author_sees_why_an_approval_is_refused(site, visit: Open) -> None:
    page = visit("maya", refused=True)
    page.goto(f"/releases/{site.story.waiting}")
    expect(page.get_by_text("evaluation.metrics.auc = 0.732")).to_be_visible()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("alert")).to_contain_text("may not")
    expect(page.get_by_text("awaiting approval").first).to_be_visible()


def test_a_second_person_approves_by_keyboard_and_starts_the_canary(site, visit: Open) -> None:
    page = visit("ravi")
    page.goto(f"/releases/{site.story.waiting}")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Approve":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.get_by_label("Reason").fill("Better on the same rows.")
    page.get_by_role("button", name="Approve").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Your approval is recorded")
    expect(page.get_by_role("region", name="Approvals")).to_contain_text("Better on the same rows.")
    page.get_by_role("button", name="Start canary").click()
    expect(page.get_by_role("status")).to_contain_text("The canary has its share")
    page.goto("/endpoints/flight-delay")
    traffic = page.get_by_role("region", name="Traffic")
    expect(traffic.get_by_role("row", name="version 1")).to_contain_text("90 %")
    expect(traffic.get_by_role("row", name="version 2")).to_contain_text("canary")


def test_an_endpoint_refreshes_itself(site, visit: Open) -> None:
    page = visit("ravi")
    page.goto("/endpoints/flight-delay")
    assert drawn(page) == 2
    requests = page.locator('[data-fact="requests"]')
    console_story.report_health(site.app, site.story.revision, requests=4000)
    expect(requests).to_have_text("4\u202f002", timeout=20_000)
    expect(page.locator("#live-status")).to_contain_text("updated")


def test_an_incident_says_what_happened_and_can_be_acknowledged(site, visit: Open) -> None:
    page = visit("ravi")
    page.goto("/incidents")
    page.get_by_role("region", name="Incidents").get_by_role("link").first.click()
    expect(page.get_by_role("region", name="Diagnosis")).to_contain_text("distance")
    expect(page.get_by_role("region", name="Diagnosis")).to_contain_text("since 2013-04-05")
    expect(page.get_by_text("moved from a mean of").first).to_be_visible()
    assert drawn(page) >= 3
    page.get_by_label("Note").fill("Asked the airline.")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("Acknowledged by ravi")).to_be_visible()


def test_the_audit_log_verifies_and_proves_one_event(site, visit: Open) -> None:
    page = visit("ines")
    page.goto("/audit")
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_role("status")).to_contain_text("Verified: all")
    page.get_by_label("Action").fill("release.")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("row", name="release.create").get_by_role("link").first.click()
    expect(page.get_by_role("region", name="Proof of inclusion")).to_contain_text("holds")


def test_no_page_scrolls_sideways_on_a_telephone(site, visit: Open, pictures: Path | None) -> None:
    for dark in (False, True) if pictures else (False,):
        page = visit("ines", width=390, dark=dark)
        for name, address in addresses(site.story).items():
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
            if pictures:
                drawn(page)
                page.wait_for_timeout(350)
                page.screenshot(path=pictures / f"{name}-390-{'dark' if dark else 'light'}.png", full_page=True)


def test_every_page_is_whole_on_a_desk_by_day_and_by_night(site, visit: Open, pictures: Path | None) -> None:
    for dark, lightness in ((False, range(200, 256)), (True, range(60))):
        page = visit("ines", dark=dark)
        for name, address in addresses(site.story).items():
            answer = page.goto(address)
            assert answer is not None
            assert answer.status == 200, name
            drawn(page)
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert int(re.findall(r"\d+", ground)[0]) in lightness, name
            if pictures:
                page.wait_for_timeout(350)
                page.screenshot(path=pictures / f"{name}-1280-{'dark' if dark else 'light'}.png", full_page=True)


def test_the_reader_can_choose_the_theme_and_it_stays(visit: Open) -> None:
    page = visit("ines")
    page.goto("/")
    page.get_by_role("button", name="Dark theme").click()
    page.goto("/runs")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    expect(page.get_by_role("button", name="Dark theme")).to_have_attribute("aria-pressed", "true")


def test_the_first_stop_of_the_keyboard_skips_to_the_content(visit: Open) -> None:
    page = visit("ines")
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_form_of_another_page_or_site_changes_nothing(site, cookies: dict[str, str]) -> None:
    with httpx.Client(base_url=site.url, cookies={"everline_session": cookies["ravi"]}) as browser:
        without = browser.post(f"/incidents/{site.story.incident}", data={"move": "resolve"})
        foreign = browser.post(
            f"/incidents/{site.story.incident}",
            data={"move": "resolve"},
            headers={"Origin": "https://elsewhere.example"},
        )
        page = browser.get(f"/incidents/{site.story.incident}")
    assert (without.status_code, foreign.status_code) == (403, 403)
    assert "Resolved by" not in page.text


def test_every_answer_forbids_scripts_of_others(site, cookies: dict[str, str]) -> None:
    with httpx.Client(base_url=site.url, cookies={"everline_session": cookies["ines"]}) as browser:
        for address in addresses(site.story).values():
            headers = browser.get(address).headers
            assert "script-src 'self'" in headers["content-security-policy"], address
            assert "unsafe" not in headers["content-security-policy"], address
            assert headers["x-content-type-options"] == "nosniff", address


@pytest.mark.parametrize(
    "target", ["//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example", "javascript:1"]
)
def test_logging_in_leads_nowhere_else(site, target: str) -> None:
    answer = httpx.post(f"{site.url}/login", data={"name": "maya", "password": console_story.PASSWORD, "next": target})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_who_may_not_see_the_audit_log_is_told_so(site, cookies: dict[str, str]) -> None:
    with httpx.Client(base_url=site.url, cookies={"everline_session": cookies["maya"]}) as browser:
        answer = browser.get("/audit")
    assert answer.status_code == 403
    assert "audit.read is needed" in answer.text
