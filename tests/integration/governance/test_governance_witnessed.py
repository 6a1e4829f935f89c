"""The log before other people's eyes, as its operator and a stranger see it, on both databases."""

import subprocess
import sys

import pytest
from sqlalchemy import delete, update

from everline.cli.app import run
from everline.errors import IntegrityError, UnavailableError
from everline.governance import audit
from everline.governance.signing import SigningKey, server_key
from everline.governance.tables import audit_event, audit_head, audit_node
from everline.governance.tree import merkle
from everline.governance.tree.cosignature import WitnessKey


@pytest.fixture
def witness(settings, tmp_path):
    """`everline audit witness`, in a process of its own, that knows this server's log."""
    key = server_key(settings).public_text
    command = ["audit", "witness", "--home", str(tmp_path / "w"), "--log", key, "--name", "w.example", "--port", "0"]
    process = subprocess.Popen([sys.executable, "-m", "everline", *command], stdout=subprocess.PIPE, text=True)
    told = dict(process.stdout.readline().split(maxsplit=1) for _ in range(2))
    yield told["listens"].strip(), told["key"].strip()
    process.terminate()
    process.wait(20)


def grow(begin, count):
    for number in range(count):
        with begin() as uow:
            audit.record(uow, "server.note", subject=f"server:{number}", project="*", number=number)


def test_a_witnessed_log_is_verified_offline_and_one_rolled_back_is_refused(begin, client, settings, witness, tmp_path):
    url, key = witness
    grow(begin, 5)
    first = client.audit.cosign(url, witness=key)
    grow(begin, 300)
    second = client.audit.cosign(url, witness=key)
    assert second.size > first.size + 300  # the first cosignature is an event too
    bundle, public = tmp_path / "log.zip", server_key(settings).public_text
    client.audit.export(bundle)
    offline = ["audit", "verify", "--bundle", str(bundle), "--key", public]
    assert run([*offline, "--witness", key]) == 0
    assert run([*offline, "--witness", key.replace("w.example", "v.example")]) == 2  # not that key's name
    stranger = WitnessKey.of(SigningKey.generate(name="v.example")).text
    assert run([*offline, "--witness", stranger]) == 1
    tiles = tmp_path / "site"
    assert run(["audit", "tiles", str(tiles), "--bundle", str(bundle), "--key", public]) == 0
    assert run(["audit", "verify", "--tiles", str(tiles), "--key", public]) == 0
    assert [event.action for event in client.audit.list(action="audit.cosign", every_project=True)] == [
        "audit.cosign"
    ] * 2

    with begin() as uow:  # the operator goes back to a night's backup, and signs on as if nothing had been
        nodes = audit.node_reader(uow)
        peaks = [nodes([node])[node] for node in merkle.peak_nodes(4)]
        uow.conn.execute(delete(audit_event).where(audit_event.c.position >= 4))
        uow.conn.execute(delete(audit_node))
        values = {"size": 4, "root": merkle.fold(peaks), "peaks": b"".join(peaks)}
        uow.conn.execute(update(audit_head).values(**values))
    with pytest.raises(IntegrityError, match="rolled back"):
        client.audit.cosign(url, witness=key)
    with pytest.raises(UnavailableError, match="does not answer"):
        client.audit.cosign("http://127.0.0.1:1", witness=key)
