"""API keys and options of endpoints, on both databases and through every face."""

import msgspec
import pytest
from click.testing import CliRunner

from everline.access.types import Actor, Role
from everline.cli.app import cli
from everline.clock import FixedClock, SystemClock
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.ids import digest_bytes
from everline.serving import desired, keys, options, service
from everline.serving.types import ChangeEndpoint, CreateEndpointKey, EndpointAccess

MACHINE = Actor(uid="machine", name="machine", roles={"*": frozenset({Role.DATAPLANE})})
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What no database does differently."""


@pytest.fixture
def endpoint(begin):
    with begin() as uow:
        return service.create_endpoint(uow, "prices", project="default")


def told(begin):
    with begin(MACHINE) as uow:
        state = desired.desired_state(uow)
    return state.generation, state.endpoints[0]


def test_a_key_reaches_data_planes_as_a_hash_and_leaves_them_when_it_ends(begin, app, endpoint):
    clock = app.clock = FixedClock(SystemClock().now())
    with begin(role=Role.CONTRIBUTOR) as uow:
        made = keys.create_key(
            uow, "prices", CreateEndpointKey(name="shop", requests_per_s=5, days=2), project="default"
        )
        other = keys.create_key(uow, "prices", CreateEndpointKey(name="app"), project="default")
    before, seen = told(begin)
    assert made.secret.startswith("evk_")
    assert made.secret not in msgspec.json.encode(seen).decode()
    assert [(one.uid, one.hash, one.requests_per_s) for one in seen.keys] == [
        (made.key.uid, digest_bytes(made.secret.encode()), 5.0),
        (other.key.uid, digest_bytes(other.secret.encode()), None),
    ]
    with begin() as uow:
        with pytest.raises(ConflictError, match="'shop' already"):
            keys.create_key(uow, "prices", CreateEndpointKey(name="shop"), project="default")
        keys.revoke_key(uow, "prices", other.key.uid, project="default")
    after, seen = told(begin)
    assert (after > before, [one.uid for one in seen.keys]) == (True, [made.key.uid])
    clock.advance(3 * 86_400)
    assert told(begin)[1].keys == []
    with begin() as uow:
        events = audit.list_events(uow, project="default", action="endpoint.key.")
        assert [event.action for event in events] == [
            "endpoint.key.revoke", "endpoint.key.create", "endpoint.key.create",
        ]  # fmt: skip
        assert made.secret not in msgspec.json.encode(events).decode()
        with pytest.raises(NotFoundError):
            keys.revoke_key(uow, "prices", other.key.uid, project="default")
    with begin(role=Role.VIEWER) as uow:
        assert len(keys.list_keys(uow, "prices", project="default")) == 2
        with pytest.raises(ForbiddenError):
            keys.revoke_key(uow, "prices", made.key.uid, project="default")


@pytest.mark.parametrize(
    ("wanted", "field"),
    [({"requests_per_s": 0.0}, "requests_per_s"), ({"requests_per_s": float("nan")}, "requests_per_s"),
     ({"requests_per_day": 0}, "requests_per_day"), ({"days": 4000}, "days"), ({"name": "a b"}, "name")],
)  # fmt: skip
@ON_SQLITE
def test_quotas_that_mean_nothing_are_refused(begin, endpoint, wanted, field):
    with begin() as uow, pytest.raises(InvalidInputError) as caught:
        keys.create_key(uow, "prices", CreateEndpointKey(**({"name": "k"} | wanted)), project="default")
    assert caught.value.field == field


@ON_SQLITE
def test_options_change_what_data_planes_are_told_and_only_that(begin, endpoint):
    first, seen = told(begin)
    assert (seen.access, seen.log_share, seen.durability_s) == (EndpointAccess.OPEN, 1.0, 0.0)
    change = ChangeEndpoint(access=EndpointAccess.KEY, log=0.25, durability=2.5)
    with begin() as uow:
        assert options.change_endpoint(uow, "prices", change, project="default").log == 0.25
        options.change_endpoint(uow, "prices", change, project="default")
    second, seen = told(begin)
    assert (second, seen.access, seen.log_share, seen.durability_s) == (first + 1, EndpointAccess.KEY, 0.25, 2.5)
    with begin() as uow:
        back = options.change_endpoint(uow, "prices", ChangeEndpoint(log="full", durability="every"), project="default")
        assert (back.log, back.durability, back.access) == ("full", "every", EndpointAccess.KEY)
        for wrong in ({"log": 0.0}, {"log": 1.5}, {"durability": 0.0}, {"durability": 61.0}):
            with pytest.raises(InvalidInputError):
                options.change_endpoint(uow, "prices", ChangeEndpoint(**wrong), project="default")


@ON_SQLITE
def test_the_command_line_makes_lists_and_ends_keys(settings, monkeypatch, endpoint):
    monkeypatch.setenv("EVERLINE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("EVERLINE_WORKER", "false")
    monkeypatch.setenv("EVERLINE_HOME", str(settings.home))

    def run(*words):
        result = CliRunner().invoke(cli, ["endpoints", *words, "--json"])
        assert result.exit_code == 0, result.output
        return msgspec.json.decode(result.stdout)

    changed = run("set", "prices", "--access", "key", "--log", "0.5", "--durability", "every", "--guard", "flag")
    assert (changed["access"], changed["log"], changed["guard"]) == ("key", 0.5, "flag")
    made = run("keys", "create", "prices", "--name", "shop", "--requests-per-day", "1000")
    assert made["secret"].startswith(made["key"]["prefix"])
    (listed,) = run("keys", "list", "prices")
    assert listed["requests_per_day"] == 1000
    assert "secret" not in listed
    assert run("keys", "revoke", "prices", listed["uid"])["revoked_at"]
