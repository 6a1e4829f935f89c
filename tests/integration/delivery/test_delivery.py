"""A file is planned, applied, applied again, changed, moved under, and taken apart: on both databases."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from everline.access import service as access
from everline.access.types import LOCAL, Actor, Role
from everline.cli.app import run
from everline.datasets import contracts
from everline.delivery import service
from everline.delivery.types import Plan
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, StaleError
from everline.governance import audit, policies
from everline.monitoring import service as monitoring
from everline.pipelines.schedules import service as schedules
from everline.releases import plans
from everline.releases import service as releases
from everline.releases.types import Plan as Rollout
from everline.sdk.delivery import gather
from everline.serving import service as serving
from everline.webhooks import service as webhooks
from tests_support.monitored import add_dataset
from tests_support.registry import attest, register

FILE = """
stack = "flights"

[datasets.past]
description = "Flights out of New York"
owner = "data team"
contract = "contracts/past.toml"

[datasets.to-come]
owner = "data team"

[pipelines.retrain]
pipeline = "flight_delay:flight_delay"
directory = "pipelines"
params = { max_depth = 6 }

[policies.fair]
file = "policies/fair.toml"

[endpoints.flight-delay]
guard = "flag"
rollout = { canary_share = 0.2 }

[monitors.inputs]
endpoint = "flight-delay"
reference = { dataset = "past" }
on_incident = "retrain"

[schedules.nightly]
pipeline = "retrain"
trigger = { kind = "cron", expression = "0 3 * * *", zone = "Europe/Berlin" }
params = { day = "{slot:%Y-%m-%d}" }

[webhooks.ci]
url = "https://ci.example.com/hooks/models"
events = ["model_version.created"]
secret_env = "CI_SECRET"

[roles]
ravi = ["approver"]

[[templates]]
name = "carriers"
table = "carriers.csv"

[templates.endpoints."delay-${carrier}"]
rollout = { canary_share = "${share}" }

[templates.monitors."drift-${carrier}"]
endpoint = "delay-${carrier}"
reference = { dataset = "past" }
"""
CONTRACT = 'key = ["day", "distance"]\nfresh_within = "40d"\n[columns.distance]\ntype = "double"\n'
POLICY = """
name = "fair"
title = "Every slice is served"
reason = "Company rule 7"
[[rules]]
name = "auc"
reason = "Better than a coin"
expression = "evaluation.metrics.auc >= {auc}"
"""
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What does not differ between databases is asked of one."""
SECRET = "s3cret-of-ci"  # noqa: S105 - a test's own


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository with an everline.toml and what it refers to, in which commands run."""
    place = tmp_path / "repository"
    for name, text in {
        "everline.toml": FILE,
        "contracts/past.toml": CONTRACT.replace("double", "float64"),
        "policies/fair.toml": POLICY.replace("{auc}", "0.5"),
        "carriers.csv": "carrier,share\nUA,0.1\nAA,0.3\n",
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    monkeypatch.chdir(place)
    monkeypatch.setenv("CI_SECRET", SECRET)
    return place


@pytest.fixture
def world(begin, folder):
    """Data, a user, and something made by hand."""
    with begin() as uow:
        add_dataset(uow, "past", days=12)
        access.create_user(uow, "ravi")
        serving.create_endpoint(uow, "by-hand", project="default")


def edit(folder, old, new, *, name="everline.toml"):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def done(plan_or_record):
    return {change.address: change.action.value for change in plan_or_record.changes}


@pytest.mark.usefixtures("world")
def test_a_file_is_planned_applied_changed_and_taken_apart(begin, client, folder):
    plan = client.delivery.plan()
    assert plan.problem is None
    assert plan.missing == []
    assert done(plan) == dict.fromkeys(
        [
            "datasets.to-come", "pipelines.retrain", "policies.fair", "endpoints.flight-delay", "endpoints.delay-UA",
            "endpoints.delay-AA", "webhooks.ci", "monitors.inputs", "monitors.drift-UA", "monitors.drift-AA",
            "schedules.nightly", "roles.ravi/approver",
        ],
        "create",
    ) | {"datasets.past": "change"}  # fmt: skip
    with begin() as uow:
        assert webhooks.list_webhooks(uow, "default") == []  # planning and trying out changed nothing

    applied = client.delivery.apply(plan=plan)
    assert done(applied) == done(plan)
    with begin() as uow:
        assert contracts.get_contract(uow, "default", "past").contract.owner == "data team"
        assert policies.get_policy(uow, "fair", project="default").active
        assert plans.get_plan(uow, "delay-AA", project="default") == Rollout(canary_share=0.3)
        monitor = monitoring.get_monitor(uow, "inputs", project="default")
        assert (monitor.reference.version, monitor.on_incident.params) == ("1", {"max_depth": 6})
        nightly = schedules.get_schedule(uow, "default", "nightly")
        assert (nightly.pipeline, nightly.directory) == ("flight_delay:flight_delay", "pipelines")
        assert nightly.params == {"max_depth": 6, "day": "{slot:%Y-%m-%d}"}
        assert webhooks.list_webhooks(uow, "default")[0].signed
        assert [user.roles for user in access.list_users(uow)] == [{"default": [Role.APPROVER]}]
        (event,) = audit.list_events(uow, project="default", action="delivery.apply")
        assert event.data["counts"] == {"create": 12, "change": 1}
        assert len(audit.list_events(uow, project="default", action="monitor.create")) == 3

    assert client.delivery.apply() is None  # once more: nothing to do
    assert client.delivery.plan().changes == []
    assert {one.state for one in client.delivery.drift()} == {"same"}

    # Somebody works by hand: drift is seen, and a plan from before is not applied any more.
    edit(folder, "max_depth = 6", "max_depth = 9")
    old = client.delivery.plan()
    assert {change.address: [(f.field, f.before, f.after) for f in change.fields] for change in old.changes} == {
        "pipelines.retrain": [("params.max_depth", 6, 9)],
        "monitors.inputs": [("on_incident.params.max_depth", 6, 9)],
        "schedules.nightly": [("params.max_depth", 6, 9)],
    }
    with begin() as uow:
        plans.set_plan(uow, "flight-delay", Rollout(canary_share=0.5), project="default")
    drifted = [one for one in client.delivery.drift() if one.state == "drifted"]
    assert [(one.address, one.fields[0].field, one.fields[0].before) for one in drifted] == [
        ("endpoints.flight-delay", "rollout.canary_share", 0.5)
    ]
    with pytest.raises(StaleError, match=r"changed endpoints\.flight-delay"):
        client.delivery.apply(plan=old)
    with begin() as uow:
        assert monitoring.get_monitor(uow, "inputs", project="default").on_incident.params == {"max_depth": 6}
    new = client.delivery.plan()
    edit(folder, "max_depth = 9", "max_depth = 10")
    with pytest.raises(StaleError, match="another than the plan was made of"):
        client.delivery.apply(plan=new)
    assert client.delivery.apply() is not None
    with begin() as uow:
        assert plans.get_plan(uow, "flight-delay", project="default") == Rollout(canary_share=0.2)
        first = monitoring.get_monitor(uow, "inputs", project="default")
        assert first.on_incident.params == {"max_depth": 10}
    with pytest.raises(StaleError, match="was applied since|somebody changed|another than"):
        client.delivery.apply(plan=new)

    # What is declared no longer goes, with everything that a template made of a row; data and endpoints stay.
    (folder / "carriers.csv").write_text("carrier,share\nUA,0.1\n")
    text = (folder / "everline.toml").read_text()
    (folder / "everline.toml").write_text(
        text.replace('ravi = ["approver"]', "").replace("[datasets.to-come]\nowner", "#")
    )
    removal = client.delivery.plan()
    assert done(removal) == {
        "roles.ravi/approver": "remove", "monitors.drift-AA": "remove", "endpoints.delay-AA": "forget",
        "datasets.to-come": "forget",
    }  # fmt: skip
    client.delivery.apply(plan=removal)
    with begin() as uow:
        assert [user.roles for user in access.list_users(uow)] == [{}]
        assert {one.name for one in monitoring.list_monitors(uow, project="default")} == {"inputs", "drift-UA"}
        assert len(serving.list_endpoints(uow, project="default")) == 4

    (folder / "everline.toml").write_text('stack = "flights"\n')
    client.delivery.apply()
    with begin() as uow:
        assert monitoring.list_monitors(uow, project="default") == []
        assert webhooks.list_webhooks(uow, "default") == []
        assert schedules.list_schedules(uow, "default") == []
        assert not policies.get_policy(uow, "fair", project="default").active
        assert {one.name for one in serving.list_endpoints(uow, project="default")} >= {"by-hand", "flight-delay"}
    history = client.delivery.history()
    assert [one.what for one in history].count("apply") == 4
    shown = [client.delivery.get(one.uid) for one in history]
    assert SECRET not in repr(shown)
    assert [one.applied for one in history if one.plan == plan.digest and one.what == "plan"] == [applied.uid]


@ON_SQLITE
@pytest.mark.usefixtures("world")
def test_secrets_are_compared_and_never_told(begin, client, monkeypatch, folder):
    client.delivery.apply()
    monkeypatch.delenv("CI_SECRET")
    assert client.delivery.plan().changes == []  # where a secret is not known, it is taken to be what it was
    monkeypatch.setenv("CI_SECRET", "another-secret")
    plan = client.delivery.plan()
    ((change,),) = [change.fields for change in plan.changes]
    assert (change.field, change.before, change.after) == ("secret", "another secret", "$CI_SECRET")
    client.delivery.apply(plan=plan)
    assert client.delivery.plan().changes == []
    monkeypatch.delenv("CI_SECRET")
    with begin() as uow:
        (hook,) = webhooks.list_webhooks(uow, "default")
        webhooks.change(uow, hook.webhook, secret="by-hand", url="https://elsewhere.example.com/")
    (drifted,) = [one for one in client.delivery.drift() if one.state == "drifted"]
    assert [(one.field, one.before) for one in drifted.fields] == [
        ("url", "https://elsewhere.example.com/"),
        ("secret", "another secret"),
    ]
    with pytest.raises(InvalidInputError, match="environment variable CI_SECRET is not set"):
        client.delivery.apply()
    edit(folder, 'url = "https://ci.example.com/hooks/models"', 'url_env = "CI_URL"')
    monkeypatch.setenv("CI_SECRET", "another-secret")
    monkeypatch.setenv("CI_URL", "https://ci.example.com/hidden-path")
    client.delivery.apply()
    monkeypatch.delenv("CI_URL")
    assert client.delivery.plan().changes == []
    with begin() as uow:
        assert webhooks.get(uow, hook.webhook).url == "https://ci.example.com/hidden-path"
        webhooks.change(uow, hook.webhook, url="https://elsewhere.example.com/")
    assert [one.address for one in client.delivery.drift() if one.state == "drifted"] == ["webhooks.ci"]
    with begin() as uow:
        for table in ("delivery_thing", "delivery_record", "audit_event"):
            rows = uow.conn.exec_driver_sql(f"SELECT * FROM {table}").all()  # noqa: S608 - our own names
            assert "another-secret" not in repr(rows)
            assert SECRET not in repr(rows)
            assert "hidden-path" not in repr(rows)


@pytest.mark.usefixtures("world")
def test_a_permission_that_is_missing_is_named_and_nothing_is_applied(begin, settings, tokens, folder):
    everyone = [line for line in FILE.split("\n\n") if not line.startswith(("[webhooks", "[roles"))]
    (folder / "everline.toml").write_text("\n\n".join(everyone))
    token = tokens("cora", Role.CONTRIBUTOR)
    with begin() as uow:
        cora = access.actor_of_token(uow, token)
    source = gather(folder / "everline.toml").source
    with begin(cora) as uow:
        assert service.plan(uow, source, project="default").missing == ["policy.write"]
    with pytest.raises(ForbiddenError, match=r"policies\.fair \(create\) needs policy\.write"), begin(cora) as uow:
        service.apply(uow, source, project="default")
    with begin() as uow:
        (refused,) = audit.list_events(uow, project="default", action="delivery.refuse")
        assert (refused.actor_name, refused.subject) == ("cora", "stack:flights")
        assert service.list_stacks(uow, project="default") == []
        assert [one.name for one in serving.list_endpoints(uow, project="default")] == ["by-hand"]
    with begin(role=Role.VIEWER) as uow:
        assert "data.write" in service.plan(uow, source, project="default").missing
    (folder / "everline.toml").write_text(FILE)
    with pytest.raises(ForbiddenError, match=r"access\.read|webhook\.read"), begin(cora) as uow:
        service.plan(uow, gather(folder / "everline.toml").source, project="default")


@ON_SQLITE
@pytest.mark.usefixtures("world")
def test_a_policy_comes_into_force_when_a_second_person_applies_the_same_file(begin, folder):
    (folder / "everline.toml").write_text('stack = "flights"\n\n[policies.fair]\nfile = "policies/fair.toml"\n')
    ada, ben = (Actor(uid=f"{name}-uid", name=name, roles={"*": frozenset({Role.ADMIN})}) for name in ("ada", "ben"))
    source = gather(folder / "everline.toml").source
    states = []
    for person in (ada, ada, ben):
        with begin(person) as uow:
            service.apply(uow, source, project="default")
        with begin() as uow:
            found = policies.get_policy(uow, "fair", project="default")
            states.append((found.version, found.active, found.proposal and found.proposal.by))
    assert states == [(1, False, "ada"), (1, False, "ada"), (1, True, None)]


@pytest.mark.usefixtures("world")
def test_of_two_who_apply_the_same_plan_at_once_one_does(begin, folder):
    bundle = gather(folder / "everline.toml")
    with begin() as uow:
        plan = service.plan(uow, bundle.source, project="default", environment=bundle.environment)

    def apply(_number):
        try:
            with begin() as uow:
                service.apply(uow, bundle.source, project="default", environment=bundle.environment, expected=plan)
        except StaleError:
            return "stale"
        return "applied"

    with ThreadPoolExecutor(2) as both:
        assert sorted(both.map(apply, range(2))) == ["applied", "stale"]
    with begin() as uow:
        assert len(audit.list_events(uow, project="default", action="delivery.apply")) == 1


@ON_SQLITE
@pytest.mark.usefixtures("world")
def test_the_policy_preview_names_what_would_be_blocked(begin, client, folder):
    with begin() as uow:
        version = register(uow, b"weights")
        attest(uow, version)
        release = releases.create(
            uow, project="default", endpoint="flight-delay", model="flight-delay", version=version.version
        )
    client.delivery.apply()
    edit(folder, ">= 0.5", ">= 0.99", name="policies/fair.toml")
    (one,) = client.delivery.plan().preview
    assert (one.subject, one.release, one.before, one.after, one.blocks) == (
        "release",
        release.uid,
        "pass",
        "fail",
        True,
    )
    assert "evaluation.metrics.auc >= 0.99" in one.reasons[0]
    assert "evaluation.metrics.auc = " in one.reasons[0]


@ON_SQLITE
@pytest.mark.usefixtures("world")
def test_an_endpoint_says_who_may_ask_how_it_logs_and_how_releases_roll_out(begin, client, folder):
    edit(
        folder,
        "rollout = { canary_share = 0.2 }",
        'rollout = { steps = "5% 10 min → 100%", guards = { p99_ms_max = 20, drift = false } }\n'
        'access = "key"\nlog = 0.5\ndurability = 2',
    )
    client.delivery.apply()
    with begin() as uow:
        plan = plans.get_plan(uow, "flight-delay", project="default")
        kept = serving.get_endpoint(uow, "flight-delay", project="default")
    assert (plan.steps, plan.canary_share) == ("5% 10 min → 100%", 0.05)
    assert (plan.guards.p99_ms_max, plan.guards.drift, plan.guards.quality) == (20.0, False, True)
    assert (kept.access, kept.log, kept.durability) == ("key", 0.5, 2.0)
    assert "endpoints.flight-delay" not in done(client.delivery.plan())
    edit(folder, "5% 10 min", "5% ten minutes")
    with pytest.raises(InvalidInputError, match="ten minutes"):
        client.delivery.plan()


@ON_SQLITE
@pytest.mark.usefixtures("world")
def test_what_cannot_be_applied_is_said_before(begin, client, folder):
    edit(folder, 'endpoint = "flight-delay"', 'endpoint = "flight-dealy"')
    plan = client.delivery.plan()
    assert plan.problem is not None
    assert plan.problem.message.startswith("monitors.inputs: There is no endpoint 'flight-dealy'")
    with pytest.raises(NotFoundError, match="flight-dealy"):
        client.delivery.apply(plan=plan)
    with begin() as uow:
        assert monitoring.list_monitors(uow, project="default") == []  # all or nothing
        assert [one.name for one in serving.list_endpoints(uow, project="default")] == ["by-hand"]
    edit(folder, "flight-dealy", "flight-delay")
    edit(folder, "ravi =", "rawi =")
    with pytest.raises(NotFoundError, match=r"everline\.toml:\d+: roles\.rawi/approver: There is no user"):
        client.delivery.plan()
    edit(folder, "rawi =", "ravi =")
    client.delivery.apply()
    edit(folder, 'stack = "flights"', 'stack = "other"')
    with pytest.raises(ConflictError, match="is declared by the stack 'flights' already"):
        client.delivery.plan()


@ON_SQLITE
@pytest.mark.usefixtures("world")
def test_the_command_line_plans_applies_and_shows(settings, folder, monkeypatch, capsys):
    monkeypatch.setenv("EVERLINE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("EVERLINE_HOME", str(settings.home))
    monkeypatch.setenv("EVERLINE_WORKER", "false")
    assert run(["plan", "--out", "plan.json"]) == 0
    printed = capsys.readouterr().out
    assert "+ monitors.drift-UA  (template carriers, row 1)" in printed
    assert "12 created, 1 changed, 0 unchanged" in printed
    assert msgspec.json.decode((folder / "plan.json").read_bytes(), type=Plan).stack == "flights"
    assert SECRET not in (folder / "plan.json").read_text()
    assert run(["plan", "--exit-code"]) == 1
    capsys.readouterr()
    assert run(["apply", "plan.json", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)["record"]
    assert run(["apply"]) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert run(["plan", "--exit-code"]) == 0
    assert run(["delivery", "status"]) == 0
    assert run(["delivery", "show", record["uid"]]) == 0
    assert "+ webhooks.ci" in capsys.readouterr().out
    edit(folder, "guard =", "gaurd =")
    assert run(["plan"]) == 2
    said = capsys.readouterr().err
    assert "everline.toml:" in said
    assert "did you mean 'guard'?" in said
    assert "gaurd = " in said
    assert "^^^^^" in said
    assert LOCAL.name not in said


@ON_SQLITE
def test_a_declared_pipeline_is_run_by_its_name(begin, client, folder):
    (folder / "everline.toml").write_text(
        '[pipelines.retrain]\npipeline = "delays:delays"\ndirectory = "p"\nparams = {month = "2013-06", depth = 3}\n'
    )
    client.delivery.apply()
    job = client.delivery.run("retrain", params={"depth": 4}, reason="by name")
    (queued,) = client.jobs.list(queue="pipelines")
    payload = queued.payload
    assert queued.uid == job
    assert payload["pipeline"] == "delays:delays"
    assert payload["parameters"] == {"month": "2013-06", "depth": 4}


@ON_SQLITE
@pytest.mark.usefixtures("world")
def test_the_console_shows_drift_and_history(begin, client, browser, folder, app, tokens):
    client.delivery.apply()
    edit(folder, "canary_share = 0.2", "canary_share = 0.4")
    plan = client.delivery.plan()
    assert "all as declared" in browser.get("/delivery").text
    with begin() as uow:
        monitoring.delete_monitor(uow, "drift-UA", project="default")
        plans.set_plan(uow, "flight-delay", Rollout(canary_share=0.5), project="default")
    page = browser.get("/delivery").text
    assert "2 not as declared" in page
    assert "declared 0.2" in page
    assert "is 0.5" in page
    assert "monitors.drift-UA" in page
    shown = browser.get(f"/delivery/{plan.kept}").text
    assert "rollout.canary_share" in shown
    assert SECRET not in page + shown
    record = client.delivery.history()[-1].uid
    headers = {"Authorization": f"Bearer {tokens('vera', Role.VIEWER)}"}
    hidden = browser.get(f"/delivery/{record}", headers=headers).text
    assert "webhooks.ci" in hidden
    assert "ci.example.com" not in hidden  # addresses are for those who may see webhooks
    assert browser.get("/delivery/nothing").status_code == 400
    assert browser.get("/delivery/01a21ea4-5f2a-7000-8000-000000000000").status_code == 404
