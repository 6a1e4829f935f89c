"""What the flavors that run only in a process of their own share: facts, loading, the checks of a written model."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from everline.errors import IntegrityError, InvalidInputError
from everline.models.compiling.features import NotCompiledError
from everline.models.flavors.tables import row_independent, with_outputs, write_around
from everline.models.isolated.environments import python_for
from everline.models.isolated.pickles import pickled_files
from everline.models.isolated.process import IsolatedModel, Limits, setup_of
from everline.models.requirements import REQUIREMENTS_FILE
from everline.models.signature import ColumnType, OutputField, Signature, check_columns, example_columns

if TYPE_CHECKING:
    from everline.models.compiling.writing import Compiled
    from everline.models.package import Package

_TYPES = {"b": ColumnType.BOOLEAN, "i": ColumnType.LONG, "u": ColumnType.LONG, "f": ColumnType.DOUBLE}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What `metadata.flavor` of a manifest says about a model that runs in a process of its own.

    Attributes:
        kind: `function` or `pyfunc`.
        entry: `module:function`, or the folder of an MLflow model.
        python: version of Python that it was packaged with.
        limits: what its process may take.
    """

    kind: str
    entry: str
    python: str
    row_independent: bool = True
    limits: Limits = Limits()


def write_isolated(
    signature: Signature,
    *,
    directory: Path,
    probe: Signature,
    kind: str,
    entry: str,
    needs: tuple[str, ...],
    limits: Limits,
    flavors: Mapping[str, Any],
) -> tuple[Signature, dict[str, Any]]:
    """Write what lies beside a model whose own files are there already, and ask it in its process.

    Args:
        needs: distributions whose installed versions it needs.

    Raises:
        InvalidInputError: it does not answer rows that fit the signature.
        ModelFailedError: it cannot be loaded in its own process.
    """
    write_around(directory, signature, probe=probe, needs=needs, flavor=flavors)
    facts = Facts(kind=kind, entry=entry, python=platform.python_version(), limits=limits)
    python = python_for((directory / REQUIREMENTS_FILE).read_text(), python=facts.python)

    def started(named: Signature) -> IsolatedModel:
        return IsolatedModel(setup_of(named, kind=kind, entry=entry, directory=directory, python=python, limits=limits))

    if not signature.outputs:
        model = started(signature)
        try:
            signature = with_outputs(signature, _outputs(model, signature, probe))
        finally:
            model.close()
    model = started(signature)
    try:
        facts = msgspec.structs.replace(facts, row_independent=row_independent(model, signature, probe))
    finally:
        model.close()
    write_around(directory, signature, probe=probe, needs=needs, flavor=flavors)
    return signature, msgspec.to_builtins(facts)


def load_model(package: Package) -> IsolatedModel:
    """Start the process of a verified package.

    Raises:
        EnvironmentUnavailableError: its environment cannot be made here.
        ModelFailedError: it cannot be loaded there.
    """
    facts = msgspec.convert(package.manifest.metadata.get("flavor"), Facts)
    python = python_for((package.directory / REQUIREMENTS_FILE).read_text(), python=facts.python)
    setup = setup_of(
        package.manifest.signature, kind=facts.kind, entry=facts.entry, directory=package.directory, python=python,
        limits=facts.limits,
    )  # fmt: skip
    return IsolatedModel(setup, rows_alone=not facts.row_independent)


def check_pickles(package: Package, *, allowed: bool) -> None:
    """Refuse a package that holds pickles, unless they are allowed here.

    Raises:
        IntegrityError: it does; the message names them.
    """
    found = [] if allowed else pickled_files(package.directory)
    if found:
        raise IntegrityError(
            f"The package holds pickles, which run whatever their author put in there: {', '.join(found[:5])}.",
            hint="Name the project in EVERLINE_PICKLE_PROJECTS where the model shall run, in a process of its own.",
        )


def check_written(model: Any, package: Package, *, probe: Signature) -> None:
    """Nothing is left to compare: a model in a process of its own was asked there before."""


def compilable(model: Any, signature: Signature, facts: Mapping[str, Any]) -> tuple[None, Callable[[], Compiled]]:
    """It is never compiled."""

    def refuse() -> Compiled:
        raise NotCompiledError("it runs in a process of its own")

    return None, refuse


def to_files(model: Any) -> dict[str, bytes]:
    """Refused: a step's result is data or a fitted model, not code."""
    raise InvalidInputError(
        f"A {type(model).__name__} cannot be kept as the result of a step.",
        hint="Package it with `build_package`, outside of a pipeline.",
    )


def from_files(files: Mapping[str, bytes]) -> Any:
    """Refused, as `to_files`."""
    raise InvalidInputError("A model that runs in a process of its own is not kept as the result of a step.")


def _outputs(model: IsolatedModel, signature: Signature, probe: Signature) -> list[OutputField]:
    call = check_columns(signature, example_columns(probe, rows=8))
    try:
        answer = model.predict(call.arrays, rows=call.rows)
    except ValueError as error:
        raise InvalidInputError(
            f"The model does not answer rows that fit the signature: {error}", field="signature"
        ) from error
    kinds = {name: np.asarray(array).dtype.kind for name, array in answer.items()}
    return [OutputField(name=name, type=_TYPES.get(kind, ColumnType.STRING)) for name, kind in kinds.items()]
