"""Put a diagnosis together: the feature, since when, how sure, what it did, what to do; and one sentence of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from everline.models.package import Predictor
from everline.monitoring.diagnosis.change_point import change_point
from everline.monitoring.diagnosis.changes import classify_change, distribution_of
from everline.monitoring.diagnosis.restoration import effects_of
from everline.monitoring.drift.columns import Column
from everline.monitoring.types import Action, Candidate, Change, Diagnosis, Distribution, Effect, Monitor, Signal
from everline.monitoring.windows.blocks import FeatureReference

_LOG_P_MAX = 12.0
_JUMP_MIN = 3.0
_EFFECT_SHOWN_MIN = 0.0005
_UNDONE_MIN = 0.25
_DRAWN_MAX = 4


@dataclass(frozen=True, slots=True)
class Scene:
    """What a diagnosis looks at: one closed window and what went before.

    Attributes:
        history: the signals of each stream, oldest first, the window's own last.
        references: each input that can be compared, as the reference had it.
        strengths: p-value and distance of each input in this window.
        offset_s: days begin this long after midnight UTC.
        changed_package: the package of the window differs from that of the window before.
        fresh: streams that drifted before and showed something new in this window.
    """

    monitor: Monitor
    start: datetime
    until: datetime
    window: pa.Table
    signals: Mapping[str, Signal]
    history: Mapping[str, Sequence[Signal]]
    references: Mapping[str, FeatureReference]
    inputs: Mapping[str, Column]
    strengths: Mapping[str, tuple[float, float]]
    predictor: Predictor | None
    candidates_max: int
    changed_package: bool = False
    fresh: frozenset[str] = frozenset()


def onset_of(history: Sequence[Signal]) -> tuple[datetime, bool]:
    """Return since when a stream is not as before, and whether it got there gradually.

    The series is how unlikely each window was, ``-log10 p`` up to 12; its change point is taken for a jump, and for
    a slow movement the window in which the evidence began to grow.
    """
    series = [min(_LOG_P_MAX, -np.log10(max(signal.p_value, 1e-300))) for signal in history]
    last = history[-1]
    began = history[max(0, len(history) - last.evidence_windows)].start
    if len(series) < 3:
        return began, False
    found = change_point(series)
    jumped = found.after - found.before >= _JUMP_MIN
    if jumped and not (found.gradual and found.before > 1.0):
        return history[found.index].start, False
    return began, last.evidence_windows > 3


def candidates_of(scene: Scene, names: Sequence[str]) -> list[Candidate]:
    """Return the features that may be the cause, the one that moves the predictions most first."""
    found = {name: change for name in names if (change := change_of(scene, name)) is not None}
    changes = dict(list(found.items())[: scene.candidates_max])
    effects: dict[str, Effect] = {}
    if scene.predictor is not None:
        columns = {name: scene.references[name].column for name in changes}
        effects = effects_of(scene.predictor, scene.window, columns, changes=changes, output=scene.monitor.output)
    candidates = [
        Candidate(
            feature=name,
            change=change,
            p_value=scene.strengths.get(name, (1.0, 0.0))[0],
            distance=scene.strengths.get(name, (1.0, 0.0))[1],
            effect=effects.get(name),
        )
        for name, change in changes.items()
    ]
    return sorted(candidates, key=_strength)


def change_of(scene: Scene, name: str) -> Change | None:
    """What happened to an input; None where the reference or the window has none of that name."""
    if name not in scene.references or name not in scene.inputs:
        return None
    reference = scene.references[name]
    spread = reference.spreads.get("missing")
    return classify_change(
        reference.column,
        scene.inputs[name],
        missing_deviation=spread.deviation if spread else 0.0,
        repeat=reference.repeat,
    )


def diagnose_input(scene: Scene, lead: str, candidates: Sequence[Candidate]) -> Diagnosis:
    """Diagnose one broken or abruptly changed feature."""
    signal = scene.signals[lead]
    since, gradual = (scene.start, False) if lead in scene.fresh else onset_of(scene.history[lead])
    own = next((one for one in candidates if one.feature == lead), None)
    change = own.change if own else Change(kind="shift", text="changed", broken=False)
    effect = own.effect if own else None
    action = (
        Action(verb="fix_upstream", why=f"{lead} {change.text}: data do not do that by themselves.")
        if change.broken
        else Action(verb="retrain", why=f"The model has not learnt from such values of {lead}.")
    )
    sentence = (
        f"{lead} {change.text}, since {_day(since, scene.monitor)} (p = {signal.p_value:.1g} in this window, "
        f"{_promise(scene.monitor)}){_effect_text(effect)}{_same_text(lead, change, candidates)}."
    )
    return Diagnosis(
        sentence=sentence,
        kind=change.kind,
        feature=lead,
        since=since,
        gradual=gradual,
        p_value=signal.p_value,
        evidence=signal.evidence,
        level=signal.level,
        promise=_promise(scene.monitor),
        change=change,
        effect=effect,
        candidates=list(candidates),
        distributions=_distributions(scene, lead, candidates),
        action=action,
        value=signal.value,
        reference_value=signal.reference_value,
    )


def diagnose_population(scene: Scene, alarmed: Sequence[str], candidates: Sequence[Candidate]) -> Diagnosis:
    """Diagnose a movement of the inputs that nothing upstream need have broken, such as a season."""
    lead = next((one.feature for one in candidates if one.feature in alarmed), alarmed[0])
    signal = scene.signals[lead]
    onsets = [onset_of(scene.history[name]) for name in alarmed]
    since, gradual = min(onset[0] for onset in onsets), any(onset[1] for onset in onsets)
    own = next((one for one in candidates if one.feature == lead), None)
    others = [name for name in alarmed if name != lead]
    together = f"; with it {', '.join(others)}" if others else ""
    way = "gradually" if gradual else "within a few windows" if others else "abruptly"
    moved = own.change.text if own else "changed"
    sentence = (
        f"The inputs moved {way}, as a season or another population would: {lead} {moved}{together}; "
        f"since {_day(since, scene.monitor)} ({_promise(scene.monitor)}){_effect_text(own.effect if own else None)}."
    )
    return Diagnosis(
        sentence=sentence,
        kind="population",
        feature=lead,
        since=since,
        gradual=gradual,
        p_value=signal.p_value,
        evidence=signal.evidence,
        level=signal.level,
        promise=_promise(scene.monitor),
        change=own.change if own else None,
        effect=own.effect if own else None,
        candidates=list(candidates),
        distributions=_distributions(scene, lead, candidates),
        action=Action(
            verb="accept",
            why="Nothing looks broken. Accept it and take a newer reference, or retrain once quality falls."
            if others or gradual
            else f"Ask whoever provides {lead} first; if the change is real, take a newer reference.",
        ),
        value=signal.value,
        reference_value=signal.reference_value,
    )


def diagnose_outputs(scene: Scene, lead: str, candidates: Sequence[Candidate]) -> Diagnosis:
    """Diagnose a fall of quality or a movement of the predictions: `lead` is the metric or the output."""
    signal = scene.signals[lead]
    since, gradual = onset_of(scene.history[lead])
    quality = scene.monitor.kind == "quality"
    suspect = _suspect(candidates, rise=abs(signal.effect) if quality else None)
    what = lead.replace("_", " ")
    shown = _both(signal) and (quality or signal.unit == "mean")
    values = f" from {signal.reference_value:.3g} to {signal.value:.3g}" if shown else ""
    direction = "rose" if quality and lead not in ("auc", "calibration", "bias") else "went" if values else "changed"
    if suspect is None:
        because = "; no single input explains it, so the relation of inputs and outcome may have changed"
    else:
        because = f"; {suspect.feature} {suspect.change.text}{_effect_text(suspect.effect)}"
    sentence = (
        f"{what.capitalize()} of {scene.monitor.endpoint} {direction}{values} since {_day(since, scene.monitor)} "
        f"({_promise(scene.monitor)}){because}."
    )
    return Diagnosis(
        sentence=sentence,
        kind=scene.monitor.kind.value,
        feature=suspect.feature if suspect else None,
        since=since,
        gradual=gradual,
        p_value=signal.p_value,
        evidence=signal.evidence,
        level=signal.level,
        promise=_promise(scene.monitor),
        change=suspect.change if suspect else None,
        effect=suspect.effect if suspect else None,
        candidates=list(candidates),
        distributions=_distributions(scene, suspect.feature if suspect else None, candidates),
        action=_output_action(scene, since, suspect, what),
        value=signal.value,
        reference_value=signal.reference_value,
    )


def _output_action(scene: Scene, since: datetime, suspect: Candidate | None, what: str) -> Action:
    if suspect is not None and suspect.change.broken:
        return Action(verb="fix_upstream", why=f"{suspect.feature} {suspect.change.text}.")
    if scene.changed_package and scene.start - since <= 2 * (scene.until - scene.start):
        return Action(verb="roll_back", why=f"Another model version has answered since {_day(since, scene.monitor)}.")
    return Action(verb="retrain", why=f"The {what} is outside of what the evaluation showed, on data that look sound.")


def _suspect(candidates: Sequence[Candidate], *, rise: float | None) -> Candidate | None:
    """The input whose restoration undoes the damage: for quality, a good part of the loss; else what moves most."""
    for one in candidates:
        effect = one.effect
        if effect is None or effect.mean_absolute_change < _EFFECT_SHOWN_MIN:
            continue
        if rise is None:
            return one
        if effect.loss is None or effect.loss_restored is None:
            continue
        if effect.loss - effect.loss_restored >= _UNDONE_MIN * rise:
            return one
    return None


def _strength(one: Candidate) -> tuple[bool, float, float]:
    moved = one.effect.mean_absolute_change if one.effect else 0.0
    return (not one.change.broken, -moved, -one.distance)


def _effect_text(effect: Effect | None) -> str:
    if effect is None:
        return ""
    if effect.mean_absolute_change < _EFFECT_SHOWN_MIN:
        return "; it left the predictions as they were"
    text = (
        f"; it moved the mean prediction by {effect.change:+.3f} ({effect.mean_restored:.3f} → {effect.mean:.3f}), "
        f"single ones by {effect.mean_absolute_change:.3f} on average"
    )
    if effect.loss is not None and effect.loss_restored is not None:
        text += f" and the loss by {effect.loss - effect.loss_restored:+.3f}"
    return text


def _same_text(lead: str, change: Change, candidates: Sequence[Candidate]) -> str:
    """The other features that the same thing happened to: an outage takes several at once."""
    same = [
        one.feature for one in candidates if one.feature != lead and one.change.kind == change.kind and change.broken
    ]
    return f"; the same happened to {', '.join(same)}" if same else ""


def _distributions(scene: Scene, lead: str | None, candidates: Sequence[Candidate]) -> list[Distribution]:
    """Then and now of the lead and of the candidates after it."""
    names = list(dict.fromkeys([*([lead] if lead else []), *(one.feature for one in candidates)]))
    known = [name for name in names if name in scene.references and name in scene.inputs]
    drawn = [distribution_of(name, scene.references[name].column, scene.inputs[name]) for name in known]
    return [one for one in drawn if one is not None][:_DRAWN_MAX]


def _both(signal: Signal) -> bool:
    return signal.value is not None and signal.reference_value is not None


def _promise(monitor: Monitor) -> str:
    windows = monitor.windows_between_false_alarms
    return f"at most one false alarm in {windows} windows of {monitor.window} on average"


def _day(at: datetime, monitor: Monitor) -> str:
    local = at - timedelta(seconds=monitor.offset_s)
    return local.date().isoformat() if monitor.window.endswith("d") else local.strftime("%Y-%m-%d %H:%M")
