"""Where System 1 is trusted: what another threshold would have done, put one in force, take it back.

The CLI (`secondnature tune`), the HTTP API and the console call these three.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from agent.day import Day
from agent.in_force import MACHINES
from agent.recalibrate import in_force_for
from agent.thresholds import in_force
from agent.vigil import alarmed_at
from memory.errors import BadInput, Conflict, NotFound
from memory.rows import ThresholdChange
from memory.store import Memory
from policies.audit import AuditSettings
from policies.audited import audited_columns
from policies.calibration import CalibrationSettings, Calibrator, cross_fitted_arrays
from policies.certify import Certificate, CertifySettings, Goal, certify_log
from policies.offpolicy import Columns
from policies.replay import READ as REPLAYED
from policies.replay import ReplayCurve, ReplaySettings, replay, replay_stopped
from policies.rescoring import READ as SCORED
from policies.rescoring import rescore
from policies.skills import unknown_skill
from policies.thinning import audit_log_columns

BASE = "base"  # how the bare base is named where an adapter's name is asked for
GRID = 201  # thresholds of a curve: half a percent apart
NEEDED = tuple(dict.fromkeys((*REPLAYED, *SCORED, "adapter", "heldout", "seq", "threshold", "asked_at")))


def whatif(
    memory: Memory,
    skill: str | None = None,
    adapter: str | None = None,
    thresholds: Sequence[float] | None = None,
    goal: Goal | None = None,
    certify: CertifySettings | None = None,
    calibration: CalibrationSettings | None = None,
    default: float | None = None,
    without: Collection[str] = (),
    audit_share: float | None = None,
) -> dict[str, Any]:
    """What each threshold (0..1; an even grid where None) would have done with the log of one System 1.

    `skill` None: all together; `adapter` None: the bare base. Confidences are those of the adapter's calibration in
    force, so that the curve says what a threshold set now would do; without one they are the logged ones. Gives the
    curve (`policies.replay.ReplayPoint`), a recommendation and a certificate for the goal, and what is in force, as
    JSON (agent/thresholds.py; `default`: the settings' own threshold). `without`: names that all together leaves out,
    because no threshold decides about them (`agent.groups.undecided`). `audit_share` (0..1, the
    service's `audit.floor`; None: as delivered): share of accepted answers that would be audited, for the tokens. The
    curve is of the whole log; the certificate, as that of `agent.recalibrate`, leaves out what a skill answered before
    its alarm rang, and where `skill` is None the skills with a threshold of their own. Takes a second for a million
    episodes: call it in a thread.
    """
    goal = goal or Goal()
    aside = [name for name in without if name != skill]
    columns, method = logged(memory, adapter, calibration or CalibrationSettings(), aside)
    standing = _since_alarm(columns, alarmed_at(memory, adapter))
    apart = _apart(memory, adapter) if skill is None else []
    log = audit_log_columns(_aside(standing, apart), None if skill is None else _code(columns, skill))
    share = AuditSettings().floor if audit_share is None else audit_share
    curve, stopped = _curve(_of_skill(columns, skill), thresholds, goal, share)
    return {
        "skill": skill,
        "adapter": adapter,
        "calibration": method,
        "goal": goal.model_dump(),
        "n": curve.n,
        "audits": curve.audits,
        "stopped": stopped,
        "points": [asdict(point) for point in curve.points],
        "recommendation": None if curve.recommendation is None else asdict(curve.recommendation),
        "certificate": asdict(_told_of(certify_log(log, goal, certify or CertifySettings()), apart)),
        "in_force": in_force(memory, (skill,), adapter, default)[skill or "*"],
    }


def logged(
    memory: Memory, adapter: str | None, settings: CalibrationSettings, without: Collection[str] = ()
) -> tuple[Columns, str]:
    """One System 1's log as arrays, confidences as today's calibration gives them, and that calibration's method.

    A row that the calibration was fitted on is scored by a fit of other rows: on its own it would look too good.
    Without a calibration the confidences are those logged. `without`: skills whose rows are left out in the end.
    """
    columns = dict(memory.outcome_columns(adapter=adapter, only=NEEDED))
    names = columns.pop("names")
    if adapter is None:  # the memory takes None for "any adapter"
        columns = _where(columns, columns["adapter"] < 0)
    stored = memory.calibration(adapter)
    calibrator = Calibrator.from_json(json.dumps(stored)) if stored else Calibrator()
    if calibrator.method != "unknown":
        columns["confidence"] = rescore(columns, calibrator, [str(name) for name in names])
    if calibrator.method in ("platt", "isotonic"):
        seen = (columns["agrees"] >= 0) & (columns["propensity"] > 0)
        fitted = np.flatnonzero(seen & ((columns["heldout"] > 0) | (columns["adapter"] < 0)))[-settings.max_audits :]
        rows = audited_columns(columns, fitted, [str(name) for name in names], settings.folds)
        columns["confidence"][fitted] = cross_fitted_arrays(rows, settings)
    return _aside(columns | {"names": names}, without), calibrator.method


def _apart(memory: Memory, adapter: str | None) -> list[str]:
    """Skills with a decision of their own under an adapter: the general threshold is not theirs."""
    return sorted(skill for skill in memory.thresholds(adapter) if skill is not None)


def _told_of(certificate: Certificate, apart: Sequence[str]) -> Certificate:
    """A general certificate that says whose audits are not in it."""
    if not apart:
        return certificate
    return replace(certificate, why=f"{certificate.why} Not in it, with thresholds of their own: {', '.join(apart)}.")


def _aside(columns: Columns, skills: Collection[str]) -> Columns:
    """The rows of all other skills."""
    codes = np.flatnonzero(np.isin(columns["names"].astype(str), list(skills)))
    rows = {name: column for name, column in columns.items() if name != "names"}
    return _where(rows, ~np.isin(rows["skill"], codes)) | {"names": columns["names"]}


def _since_alarm(columns: Columns, rung: Mapping[str, float]) -> Columns:
    """The rows that may certify: of a skill whose alarm rang (`rung`: unix seconds, by skill) those asked since."""
    if not rung:
        return columns
    since = np.array([rung.get(str(name), -np.inf) for name in columns["names"]])
    rows = {name: column for name, column in columns.items() if name != "names"}
    return _where(rows, rows["asked_at"] > since[rows["skill"]]) | {"names": columns["names"]}


def _where(columns: dict[str, npt.NDArray[Any]], mask: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[Any]]:
    return columns if mask.all() else {name: column[mask] for name, column in columns.items()}


def apply_threshold(
    day: Day,
    skill: str | None,
    value: float,
    who: str,
    why: str,
    max_disagreement: float | None = None,
    certificate: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """From this moment System 1 answers `skill` (None: every skill without its own) at confidence `value` or more.

    It belongs to the adapter in force. `max_disagreement` (0..1; None: the service's goal) is what it is trusted to
    hold: the watch over audits rings when it is broken. `certificate`: the evidence, where there is one. Raises
    BadInput outside 0..1, without a reason or with evidence for another threshold, NotFound for a skill that the
    settings do not name.
    """
    if not 0.0 <= value <= 1.0:
        raise BadInput(f"a threshold is between 0 and 1, not {value:g}", param="value")
    if not why.strip():
        raise BadInput("say why, for the record", param="why")
    _check_skill(day, skill)
    before = day.pointer.now.threshold(skill) if skill else day.pointer.now.thresholds.get(None)
    promised = day.config.goal.max_disagreement if max_disagreement is None else max_disagreement
    evidence = _evidence(certificate, value) | {"max_disagreement": promised}
    change = day.memory.set_threshold(skill, value, who, why.strip(), evidence, adapter=_live(day))
    flip(day)
    return asdict(change) | {"before": before}


def _evidence(certificate: Mapping[str, Any] | None, value: float) -> dict[str, Any]:
    """A certificate as `certify` makes them, that covers this threshold; {} for none."""
    if certificate is None:
        return {}
    try:
        checked = TypeAdapter(Certificate).validate_python(certificate)
    except ValidationError as error:
        raise BadInput(f"that is no certificate: {error.errors()[0]['msg']}", param="certificate") from None
    if checked.threshold is None or checked.threshold > value + 1e-9:
        raise BadInput(f"the certificate does not reach down to {value:g}", param="certificate")
    return asdict(checked)


def undo_threshold(day: Day, who: str, why: str, skill: str | None = None) -> dict[str, Any]:
    """Take back the newest threshold that a person set under the live adapter, for `skill` where one is named; what it
    replaced is in force again, at once.

    Recalibrations' own thresholds, and those of other adapters, are left alone. Raises NotFound where there is none.
    """
    newest = newest_by_hand(day.memory, _live(day), skill)
    if newest is None:
        what = "" if skill is None else f" for {skill!r}"
        raise NotFound(f"nobody set a threshold{what} by hand under {_live(day) or 'the base'}: nothing to undo")
    undone = day.memory.undo_threshold(who, why, newest.id)
    flip(day)
    now = in_force(day.memory, (undone.skill,), undone.adapter, day.config.route.threshold)[undone.skill or "*"]
    return asdict(undone) | {"now": now["value"] if now else None}


def newest_by_hand(memory: Memory, adapter: str | None, skill: str | None = None) -> ThresholdChange | None:
    """The newest threshold that a person set under an adapter (None: the base) and nobody took back, of `skill` or,
    where None, of any: what an undo would take back."""
    kept = (c for c in memory.threshold_history() if c.undone_at is None and c.who not in MACHINES)
    return next((c for c in kept if c.adapter == adapter and skill in (None, c.skill)), None)


def flip(day: Day) -> None:
    """Put what is written down about the live adapter in force; requests under way keep what they began with."""
    day.pointer.flip(in_force_for(day, day.pointer.now.adapter))


def meant_for(day: Day, adapter: str | None) -> None:
    """Raises Conflict where `adapter` (a name, or "base") does not answer now: a night may have put another in force
    since the curve was drawn, and neither value nor certificate is about that one. None: whichever answers."""
    live = _live(day) or BASE
    if adapter not in (None, live):
        raise Conflict(f"that was seen in the log of {adapter}, but {live} answers now; look at its log, then apply")


def _live(day: Day) -> str | None:
    adapter = day.pointer.now.adapter
    return adapter.name if adapter else None


def _check_skill(day: Day, skill: str | None) -> None:
    known = [one.name for one in day.skills if one.settled]
    if skill is not None and skill not in known:
        raise unknown_skill(skill, known)


def _curve(
    columns: Columns, thresholds: Sequence[float] | None, goal: Goal, audit_share: float
) -> tuple[ReplayCurve, dict[str, Any] | None]:
    """The curve, and what it rests on where drafts were stopped half-way (agent/routing.py): their number, the
    threshold below which the held-out answers alone speak, and a sentence. None where none was."""
    settings = ReplaySettings(grid=GRID)
    stopped = (columns["agrees"] < 0) & (columns["propensity"] <= 0) & (columns["s2_tokens"] >= 0)
    stopped &= ~np.isnan(columns["threshold"])
    if not stopped.any():
        return replay(columns, thresholds, goal, settings, audit_share=audit_share), None
    whole, below = columns["heldout"] > 0, float(columns["threshold"][stopped].max())
    curve = replay_stopped(columns, stopped, whole, below, thresholds, goal, settings, audit_share=audit_share)
    n, held = int(stopped.sum()), int(whole.sum())
    says = f"{n} drafts were stopped half-way; below {below:.3f} the curve is that of the {held} held-out answers."
    return curve, {"n": n, "below": below, "heldout": held, "says": says}


def _code(columns: Columns, skill: str) -> int:
    found = np.flatnonzero(columns["names"] == skill)
    return int(found[0]) if len(found) else -2  # a code that no row has


def _of_skill(columns: Columns, skill: str | None) -> Columns:
    wanted = columns["skill"] == _code(columns, skill) if skill is not None else slice(None)
    return {name: columns[name][wanted] for name in (*REPLAYED, "heldout", "threshold")}
