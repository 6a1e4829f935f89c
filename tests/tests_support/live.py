"""A released package and the predictions that it gave, as a data plane would have logged them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from everline.access.types import Actor, Role
from everline.models import service as models
from everline.models.package import Package, build_package, store_package
from everline.models.signature_inference import infer_signature
from everline.releases import rollout, service
from everline.releases.types import Plan
from everline.serving import predictions
from tests_support.registry import attest
from tests_support.segments import segment

NOON = datetime(2013, 5, 1, 12, tzinfo=UTC)


def someone(name: str, role: Role) -> Actor:
    return Actor(uid=f"uid-{name}", name=name, roles={"default": frozenset({role})})


def small_package(folder: Path) -> Package:
    """Trees over two numbers, one of them sometimes missing."""
    random = np.random.default_rng(3)
    table = pd.DataFrame({"distance": random.uniform(80, 4983, 400), "temp": random.normal(10, 9, 400)})
    table.loc[::7, "temp"] = np.nan
    late = (table["distance"] + random.normal(0, 900, 400) > 2000).to_numpy()
    model = HistGradientBoostingClassifier(max_iter=15, random_state=0).fit(table, late)
    return build_package(model, signature=infer_signature(table), out_dir=folder)


class Live:
    """A released package with predictions that it gave, as a data plane would have logged them."""

    def __init__(self, begin: Callable[..., Any], package: Package) -> None:
        self.begin, self.package = begin, package
        maya, ravi = someone("maya", Role.CONTRIBUTOR), someone("ravi", Role.APPROVER)
        with begin(maya) as uow:
            store_package(package, put_bytes=uow.blobs.put_bytes, put_file=uow.blobs.put_file)
            version = models.register(uow, project="default", model="flight-delay", package=package.digest)
            attest(uow, version)
        with begin(maya) as uow:
            release = service.create(
                uow,
                project="default",
                endpoint="flight-delay",
                model="flight-delay",
                version=1,
                plan=Plan(canary_share=0),
            )
        with begin(ravi) as uow:
            service.approve(uow, release.uid)
        with begin(maya) as uow:
            self.release = rollout.promote(uow, release.uid)

    def log(self, count: int, **changed: Any) -> list[str]:
        """Log `count` true answers, with some columns changed; return the prediction ids."""
        inputs = [{"distance": 100.0 + 37 * n, "temp": None if n % 3 == 0 else n / 7} for n in range(count)]
        return self.log_rows(inputs, **changed)

    def log_rows(self, inputs: list[dict[str, Any]], /, **changed: Any) -> list[str]:
        """Log true answers to some inputs."""
        answer = self.package.load().predict({name: [row[name] for row in inputs] for name in inputs[0]})
        rows = [
            {
                "inputs": row,
                "outputs": {name: values[n].item() for name, values in answer.items()},
                "package": self.package.digest,
                "release": self.release.uid,
                "revision": self.release.revision,
            }
            for n, row in enumerate(inputs)
        ]
        for row in rows:
            row.update({name: value(row[name]) if callable(value) else value for name, value in changed.items()})
        data, ids = segment(rows, at=NOON)
        with self.begin() as uow:
            predictions.add_segment(uow, data, project="default", endpoint="flight-delay", rows=len(rows))
        return ids
