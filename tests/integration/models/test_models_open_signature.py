"""A registered version leaves with a signature that the reference implementation verifies; an altered one gets none."""

import model_signing
import pytest
from sqlalchemy import update

from everline.cli.app import run
from everline.errors import IntegrityError
from everline.models.tables import model_version
from tests_support.registry import register


def test_an_exported_version_is_verified_by_strangers_tools(begin, client, settings, tmp_path):
    with begin() as uow:
        register(uow)
    out = tmp_path / "flight-delay"
    assert run(["signature", "export", "flight-delay", "1", str(out), "--home", str(settings.home)]) == 0
    verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "flight-delay.pem")
    verifier.verify(out, out / "model.sig")
    assert run(["signature", "verify", str(out), "--key", str(tmp_path / "flight-delay.pem")]) == 0
    with begin() as uow:
        uow.conn.execute(update(model_version).values(signature="sha256:" + "0" * 64))
    with pytest.raises(IntegrityError, match="not signed"):
        client.models.signature("flight-delay", 1)
