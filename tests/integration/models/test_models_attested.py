"""What is measured of a version is signed as it comes in, over the package, by whoever measured it."""

import msgspec

from everline.canonical import canonical_json
from everline.governance.signing import dsse_verify, server_key
from everline.governance.types import Outcome
from everline.reproduction import service as reproduction
from tests_support.registry import GOOD, register


def test_an_evaluation_becomes_a_signed_test_result_over_the_package(begin, client, settings):
    with begin() as uow:
        made = register(uow)
    attached = client.policies.attach(made.subject, "evaluation", GOOD["evaluation"])
    client.policies.attach(made.subject, "lineage", GOOD["lineage"])  # no measurement: nothing to sign
    with begin() as uow:
        (one,) = reproduction.list_certificates(uow, "default", subject=made.subject, limit=10)
        envelope = msgspec.json.decode(uow.blobs.get_bytes(one.digest))
    statement = msgspec.json.decode(dsse_verify(envelope, server_key(settings).verify_key))
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert [item["digest"]["sha256"] for item in statement["subject"]] == [made.package.removeprefix("sha256:")]
    used = {item["name"]: item["digest"]["sha256"] for item in statement["predicate"]["configuration"]}
    assert used == {f"evidence:{attached.uid}": attached.digest.removeprefix("sha256:"), "flights": "d" * 64}
    told = statement["predicate"]["everline"]
    assert (told["by"], told["measured"]["metrics"]["auc"]) == ("local", 0.71)
    assert canonical_json(attached.body) == canonical_json(GOOD["evaluation"])
    assert client.policies.explain(made.subject).verdicts[0].rules[0].outcome is Outcome.PASS
