"""Reading everline.toml: what is declared, what templates make of it, and errors that say where and what was meant."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from everline.delivery import reading
from everline.delivery.declaration import TABLES, TOP_KEYS, TemplateTable
from everline.delivery.faults import known_keys
from everline.delivery.literals import secret_part
from everline.delivery.reading import read
from everline.delivery.spots import find_spots
from everline.errors import InvalidInputError

DOCS = Path(__file__).parents[3] / "docs" / "delivery.md"


def load(name: str) -> str:
    raise InvalidInputError(f"There is no file {name}.")


def declared(text: str, **files: str) -> dict[str, dict[str, object]]:
    found = read(text, name="everline.toml", load=lambda name: files[name] if files else load(name))
    return {thing.address: thing.spec for thing in found.things}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[monitors.x]\nendpiont = "a"', "2:1: [monitors.x] has no key 'endpiont'; did you mean 'endpoint'?"),
        ("[monitor.x]", "1:1: The file has no key 'monitor'; did you mean 'monitors'?"),
        ("stack = 'a'\nx = [1,", "2:8: This is not TOML: "),
        (
            '[endpoints.e]\nguard = "rejct"',
            "2:1: endpoints.e.guard: Invalid enum value 'rejct'; did you mean 'reject'?",
        ),
        ("[endpoints.e.rollout]\ncanary_shar = 1", "2:1: [endpoints.e.rollout] has no key 'canary_shar'"),
        (
            '[monitors.x]\nendpoint="a"\nreference={dataset="b", blok="day"}',
            "3:25: [monitors.x.reference] has no key 'blok'; did you mean 'block'?",
        ),
        ("[monitors.x]\nendpoint = 1", "2:1: monitors.x.endpoint: Expected `str`, got `int`."),
        ('[roles]\nmara = ["viewer", "admn"]', "2:19: roles.mara.1: Invalid enum value 'admn'; did you mean 'admin'?"),
        ("\n[pipelines.p]", "2:1: pipelines.p needs the key 'pipeline'."),
        ('[pipelines.p]\npipeline = "a"', "2:1: 'a' is no address of a pipeline."),
        ('[endpoints."a b"]', "1:1: name 'a b' cannot be used as a name."),
        ('[pipelines.p]\npipeline="a:b"\nparams={x=nan}', "3:9: nan is no number that can be kept."),
        ('[policies.p]\nfile="../x"', "2:1: '../x' leads out of the folder of this file."),
        ('[policies.p]\nfile="/etc/passwd"', "2:1: '/etc/passwd' leads out of the folder of this file."),
        ('[policies.p]\nfile="p.toml"', "2:1: There is no file p.toml."),
        ('[policies.p]\nsource=""\nactive=false', "3:1: The policy 'p' is taken out of force without a reason."),
        ('[webhooks.w]\nsecret="abc"', "2:1: [webhooks.w] has no key 'secret'; did you mean 'secret_env'?"),
        ('[webhooks.w]\nurl="https://x.com/?token=abc"\nevents=[]', "2:1: The parameter token of this address looks"),
        (
            '[webhooks.w]\nurl="https://u:p@x.com/"\nevents=[]',
            "2:1: The user's name of this address looks like a secret",
        ),
        ('[pipelines.p]\npipeline="a:b"\nparams={key="ghp_abcdefghij0123456789"}', "3:9: This looks like a secret"),
        (
            '[monitors.x]\nendpoint="a"\nreference={dataset="b"}\non_incident="retran"\n[pipelines.retrain]\npipeline="a:b"',
            "4:1: This file declares no pipeline 'retran'; did you mean 'retrain'?",
        ),
        (
            '[[templates]]\nname="t"\nrows=[{carrier="UA"}]\n[templates.endpoints."e-${carier}"]',
            "4:1: ${carier} names no parameter of the template t, row 1; did you mean 'carrier'?",
        ),
        (
            '[[templates]]\nname="t"\nrows=[{a=1}, {b=2}]',
            "3:1: Row 2 of the template 't' differs in its keys: ['a', 'b'].",
        ),
        ('[[templates]]\nname="t"\n[templates.endpoint.x]', "3:1: [templates.0] has no key 'endpoint'"),
        (
            '[endpoints.e]\n[[templates]]\nname="t"\nrows=[{a="e"}]\n[templates.endpoints."${a}"]',
            "5:1: endpoints.e is declared twice.",
        ),
        (
            '[schedules.s]\npipeline="a:b"\ntrigger={kind="crn", expression="0 3 * * *"}',
            "3:10: schedules.s.trigger.kind: Invalid value 'crn'; did you mean 'cron'?",
        ),
        (
            '[schedules.s]\npipeline="a:b"\ntrigger={kind="interval", evry="6h"}',
            "3:27: [schedules.s.trigger] has no key 'evry'; did you mean 'every'?",
        ),
        ("datasets = 3", "1:1: datasets is a table."),
    ],
)
def test_a_mistake_is_said_with_its_place_and_what_was_meant(text, says):
    with pytest.raises(InvalidInputError) as caught:
        declared(text)
    assert caught.value.message.startswith(f"everline.toml:{says}")
    assert "^" in caught.value.message


def test_a_template_makes_one_of_each_row_and_keeps_the_kinds_of_values():
    text = """
[pipelines.retrain]
pipeline = "a:b"
[[templates]]
name = "carriers"
table = "carriers.csv"
[templates.pipelines."train-${carrier}"]
pipeline = "train:train"
params = { depth = "${depth}", label = "${carrier} at ${share}", since = "{since}", code = "${code}", on = "${on}" }
[templates.endpoints."delay-${carrier}".rollout]
canary_share = "${share}"
"""
    table = "carrier, depth, share, code, on\nUA, 6, 0.1, 007, true\nAA, 9, 0.25, 12, false\n"
    found = declared(text, **{"carriers.csv": table})
    assert found["pipelines.train-UA"]["params"] == {
        "depth": 6, "label": "UA at 0.1", "since": "{since}", "code": "007", "on": True
    }  # fmt: skip
    assert found["endpoints.delay-AA"]["rollout"] == {"canary_share": 0.25}
    assert len(found) == 5


def test_templates_and_files_have_limits(monkeypatch):
    text = '[[templates]]\nname="t"\nrows=[{a=1},{a=2},{a=3}]\n[templates.endpoints."e-${a}"]\n'
    monkeypatch.setattr(reading, "THINGS_MAX", 2)
    with pytest.raises(InvalidInputError, match="declares 3 things"):
        declared(text)
    with pytest.raises(InvalidInputError, match=r"Line 2 of t\.csv has 1 cells; its header has 2"):
        declared('[[templates]]\nname="t"\ntable="t.csv"', **{"t.csv": "a,b\n1\n"})
    monkeypatch.setattr(reading, "TEXT_BYTES_MAX", 10)
    with pytest.raises(InvalidInputError, match="larger than 10 bytes"):
        declared(text)


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("https://ci.example.com/hooks/flight-delay-retraining", False),
        ("https://ci.example.com/job/123456789/run?branch=main", False),
        ("https://hooks.slack.com/services/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", True),
        ("https://x.example.com/9f86d081884c7d659a2feaa0c55ad015", True),
        ("https://x.example.com/hook?sig=1", True),
    ],
)
def test_addresses_that_hold_secrets_are_told_from_others(url, secret):
    assert (secret_part(url) is not None) is secret


def test_every_key_is_found_where_it_stands():
    text = 'a.b = 1\n[x."y.z"]\nlist = [\n  { q = "]" }, # }\n  """\n""",\n]\n[[t]]\n[t.u]\nk = \'#\'\n[[t]]\nv = 1\n'
    spots = find_spots(text)
    assert {path: spot[:2] for path, spot in spots.items()} == {
        ("a",): (1, 1), ("a", "b"): (1, 3), ("x",): (2, 1), ("x", "y.z"): (2, 1), ("x", "y.z", "list"): (3, 1),
        ("x", "y.z", "list", 0, "q"): (4, 5), ("x", "y.z", "list", 0): (4, 3), ("x", "y.z", "list", 1): (5, 3),
        ("t",): (8, 1), ("t", 0): (8, 1), ("t", 0, "u"): (9, 1), ("t", 0, "u", "k"): (10, 1), ("t", 1): (11, 1),
        ("t", 1, "v"): (12, 1),
    }  # fmt: skip


@pytest.mark.parametrize("table", [*TABLES, "templates"])
def test_every_table_and_key_is_documented(table):
    text = DOCS.read_text()
    kind = TemplateTable if table == "templates" else TABLES[table]
    assert f"`[{table}" in text or f"`[[{table}" in text
    section = text[text.index(f"\n### {table}") :].split("\n### ")[1].split("\n## ")[0]
    for key in known_keys(kind) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else []:
        assert f"`{key}`" in section or key in TOP_KEYS, f"{table}.{key}"
