"""`tune`: what other thresholds would have done, which one is certified for a goal, and putting it in force."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url

STEP = 0.05  # 0..1, share of answers by which the printed table's rows differ at least


def tune(
    skill: Annotated[str | None, typer.Option(help="this skill alone; else all, to apply to those without one")] = None,
    adapter: Annotated[str | None, typer.Option(help="an adapter's name, or base; else the one that answers")] = None,
    max_disagreement: Annotated[float | None, typer.Option(help="share that System 2 may contradict, 0..1")] = None,
    confidence: Annotated[float | None, typer.Option(help="how sure to be of it, 0..1")] = None,
    max_cost: Annotated[float | None, typer.Option(help="tokens over those of always System 2, instead")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="put it in force in the running service")] = False,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="with --apply: this one instead")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="take back the newest applied threshold (of --skill)")] = False,
    why: Annotated[str, typer.Option(help="why, for the record; --apply needs it")] = "",
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:  # fmt: skip
    """Replay every threshold from the log, recommend one for a goal, apply it live, or take it back.

    Example: secondnature tune --skill sums --max-disagreement 0.05 --confidence 0.9 --apply --why "weekly review"
    """
    from agent.cli.service import configured, find, memory_of

    if undo:
        body = {"why": why or "undone at the command line", "skill": skill}
        return _undone(find(config, state_dir, url, key).call("POST", "/api/threshold/undo", body), json)
    goal = {"max_disagreement": max_disagreement, "confidence": confidence, "max_cost": max_cost}
    settings = configured(config, state_dir)
    with memory_of(config, state_dir) as memory:
        found = replayed(memory, settings, skill, adapter, {k: v for k, v in goal.items() if v is not None})
    change = None
    if apply:
        body = request(found, skill, adapter, threshold, why)
        change = find(config, state_dir, url, key).call("POST", "/api/threshold", body)
    _print(found, change, json)


def replayed(memory: Any, settings: Any, skill: str | None, adapter: str | None, goal: dict[str, float]) -> Any:
    """`agent.tuning.whatif` for the System 1 named, or the one that answers. Raises NotFound, BadInput."""
    from pydantic import ValidationError

    from agent.groups import undecided
    from agent.tuning import whatif
    from memory.errors import BadInput
    from policies.certify import Goal

    try:
        wanted = Goal(**(settings.goal.model_dump() | goal))
    except ValidationError as error:
        raise BadInput(f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from None
    live = memory.live()
    name = (live.name if live else None) if adapter is None else None if adapter == "base" else adapter
    if name is not None:
        memory.adapter(name)
    rules = (settings.certify, settings.calibration, settings.route.threshold, undecided(memory, settings))
    found = whatif(memory, skill, name, None, wanted, *rules, settings.audit.floor)
    return found | {"live": name == (live.name if live else None)}


def recommended(found: dict[str, Any]) -> float | None:
    """0..1: the certified threshold, or the one that the log estimates to be best where the goal is a cost."""
    by_cost = found["goal"]["max_cost"] is not None
    chosen = found["recommendation"] if by_cost else found["certificate"]
    return None if chosen is None or chosen["threshold"] is None else float(chosen["threshold"])


def request(
    found: dict[str, Any], skill: str | None, adapter: str | None, threshold: float | None, why: str
) -> dict[str, Any]:
    """What is asked of the service. Raises BadInput, Conflict where there is nothing to apply."""
    from memory.errors import BadInput, Conflict

    if not why.strip():
        raise BadInput('say why, for the record: --why "..."')
    if not found["live"]:
        raise Conflict(f"{adapter} does not answer now; thresholds are applied to the adapter in force")
    value = recommended(found) if threshold is None else threshold
    if value is None:
        raise Conflict(f"nothing to apply: {_verdict(found)} Name one with --threshold to go without a certificate")
    certified = threshold is None and found["goal"]["max_cost"] is None
    return {
        "skill": skill, "value": value, "why": why, "max_disagreement": _promised(found, value),
        "certificate": {**found["certificate"], "steps": []} if certified else None,
        "adapter": found["adapter"] or "base",
    }  # fmt: skip


def _promised(found: dict[str, Any], value: float) -> float:
    """The disagreement that the watch over audits will hold the threshold to: the goal; for a cost, what the log
    says it may be, if that is more."""
    goal = float(found["goal"]["max_disagreement"])
    if found["goal"]["max_cost"] is None:
        return goal
    nearest = min(found["points"], key=lambda point: abs(point["threshold"] - value))
    return min(0.99, max(goal, float(nearest["upper"])))


def _verdict(found: dict[str, Any]) -> str:
    by_cost = found["goal"]["max_cost"] is not None
    chosen = found["recommendation"] if by_cost else found["certificate"]
    return str(chosen["why"])


def _print(found: dict[str, Any], change: dict[str, Any] | None, json: bool) -> None:
    from agent.cli import out
    from agent.cli.out import in_words

    if json:
        return out.as_json(found | {"applied": change})
    who = f"{found['adapter'] or 'the base'}, {found['skill'] or 'all skills'}"
    out.table(f"What each threshold would have done: {who}, {found['n']} answers, {found['audits']} audited", (
        "from", "System 2", "disagree", "95 % interval", "audits", "tokens", "s", "cost",
    ), [_point(point) for point in rows(found["points"])])  # fmt: skip
    for reason in dict.fromkeys(p["out_of_support"] for p in rows(found["points"]) if p["out_of_support"]):
        out.console.print(f"Out of support: {reason}", markup=False)
    if found["stopped"] is not None:
        out.console.print(found["stopped"]["says"], markup=False)
    _plot(found)
    say = out.console.print
    say(f"Calibration: {found['calibration']}. In force: {in_words(found['in_force'])}", markup=False)
    say(f"Certificate: {found['certificate']['why']}", markup=False)
    if found["recommendation"] is not None:
        say(f"Estimate: {found['recommendation']['why']}", markup=False)
    if change is not None:
        before = "none" if change["before"] is None else f"{change['before']:.3f}"
        say(f"{change['value']:.3f} is in force now (before: {before}); `secondnature tune --undo` takes it back",
            markup=False)  # fmt: skip


def rows(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points that a table shows: the first, the last, and between them where the share escalated moved on."""
    chosen = points[:1]
    for point in points[1:]:
        if point["escalated"] - chosen[-1]["escalated"] >= STEP:
            chosen.append(point)
    return chosen if chosen[-1] is points[-1] else [*chosen, points[-1]]


def _point(point: dict[str, Any]) -> tuple[Any, ...]:
    from agent.cli import out

    interval = f"{100 * point['low']:.1f}-{100 * point['high']:.1f} %"
    disagree = None if point["disagreement"] is None else out.percent(point["disagreement"])
    if point["out_of_support"] is not None:
        disagree, interval = "unknown", "out of support"
    numbers = [None if point[name] is None else f"{point[name]:.{digits}f}"
               for name, digits in (("tokens", 0), ("seconds", 2), ("cost", 2))]  # fmt: skip
    return (
        f"{point['threshold']:.3f}", out.percent(point["escalated"]), disagree, interval if disagree else None,
        f"{point['effective']:.0f}", *numbers,
    )  # fmt: skip


def _plot(found: dict[str, Any]) -> None:
    from agent import plots
    from agent.cli import out

    points = found["points"]
    series = {
        "System 2 answers": [(p["threshold"], p["escalated"]) for p in points],
        "disagreement": [(p["threshold"], None if p["out_of_support"] else p["disagreement"]) for p in points],
    }
    now, best = found["in_force"], recommended(found)
    marks = {"now": now["value"]} if now is not None and now["value"] is not None else {}
    marks |= {"recommended": best} if best is not None else {}
    for line in plots.curves(series, marks):
        out.console.print(line, markup=False, highlight=False)


def _undone(told: dict[str, Any], json: bool) -> None:
    from agent.cli import out

    if json:
        return out.as_json(told)
    now = "none is set" if told["now"] is None else f"{told['now']:.3f} is in force again"
    out.console.print(f"{told['value']:.3f} for {told['skill'] or 'all skills'} was taken back; {now}", markup=False)
