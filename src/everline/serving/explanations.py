"""Why a logged prediction came out as it did: its package is fetched, verified and asked for each input's part.

Only packages that run no code of their own are asked here: a function or an MLflow model is explained where it answers.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

from everline.access.declare import read
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError
from everline.models.package import Predictor, fetch_package
from everline.models.signature import check_columns
from everline.serving.predictions import get_prediction

LOADED_MAX = 4
_loaded: OrderedDict[str, Predictor] = OrderedDict()
_loading = Lock()


@read
def explain_prediction(uow: UnitOfWork, prediction: str, *, project: str) -> dict[str, Any]:
    """What each input contributed to a logged prediction, by SHAP's definitions.

    Returns:
        `prediction`, `inputs`, and as `everline.models.explaining.explainer.Explanation` has them, with one value each,
        `method`, `output`, `scale`, `background`, `base`, `values`, `contributions`, `standard_errors`.

    Raises:
        NotFoundError: no such prediction in the project.
        IntegrityError: the package is not what its digest says, or runs code of its own.
        MissingExtraError: what it needs is not installed here.
        InvalidInputError: the logged inputs are not the package's.
    """
    logged = get_prediction(uow, prediction, project=project)
    predictor = _predictor(uow, logged.package)
    names = [field.name for field in predictor.signature.inputs]
    missing = [name for name in names if name not in logged.inputs]
    if missing:
        raise InvalidInputError(f"The logged inputs lack {', '.join(missing[:5])}, which the package takes.")
    inputs = {name: logged.inputs[name] for name in names}
    call = check_columns(predictor.signature, {name: [value] for name, value in inputs.items()})
    return predictor.explain(call) | {"prediction": logged.prediction, "inputs": inputs}


def _predictor(uow: UnitOfWork, package: str) -> Predictor:
    with _loading:
        found = _loaded.pop(package, None)
        if found is None:
            folder = uow.settings.home / "cache" / "packages" / package.removeprefix("sha256:")
            found = fetch_package(package, download=uow.blobs.fetch, out_dir=folder).load(run_code=False)
        _loaded[package] = found
        while len(_loaded) > LOADED_MAX:
            _loaded.popitem(last=False)
        return found
