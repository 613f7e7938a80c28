"""`calibration`: how far System 1's confidence can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.options import AsJson, ConfigFile, StateDir

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.confidence import Believed

COLUMNS = ("System 1", "skill", "audits", "worth", "agree", "AUROC", "ECE raw", "ECE cal.")


def calibration(
    skill: Annotated[str | None, typer.Option(help="this skill alone")] = None,
    adapter: Annotated[str | None, typer.Option(help="this adapter alone; base: the bare base")] = None,
    plot: Annotated[Path | None, typer.Option(help="write the reliability plots to this .svg file")] = None,
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """AUROC and calibration error of confidences, on held-out questions; reliability and risk-coverage of one row.

    That row is all skills of the System 1 that answers, or what --adapter and --skill name; --json has every row's.

    Example: secondnature calibration --adapter base --plot reliability.svg
    """
    from agent.cli import out
    from agent.cli.service import configured, memory_of
    from agent.confidence import reports

    with memory_of(config, state_dir) as memory:
        found = reports(memory, configured(config, state_dir).calibration, adapter, skill)
        live = memory.live()
    if plot is not None:
        _write(plot, found)
    if json:
        return out.as_json([one.as_json() for one in found])
    out.table("Confidence on held-out questions", COLUMNS, [_line(one) for one in found])
    for one in found:
        if one.skill is None:
            lacks = f"it needs {one.needed - one.audits} more audits to be calibrated"
            said = f"its calibration in force is {one.method}" if one.after else lacks
            out.console.print(f"{one.adapter or 'the base'}: {said}", markup=False, highlight=False)
    shown = [one for one in found if one.adapter == (live.name if live and adapter is None else one.adapter)]
    if shown:
        _show(shown[0])


def _line(one: Believed) -> tuple[object, ...]:
    from agent.cli import out

    best = one.after or one.before
    figures = (best.auroc, one.before.ece, one.after.ece if one.after else None)
    shown = ("-" if figure is None else f"{figure:.3f}" for figure in figures)
    return (
        one.adapter or "base",
        one.skill or "*",
        one.audits,
        f"{best.n_effective:.0f}",
        out.percent(best.agreement),
        *shown,
    )


def _show(one: Believed) -> None:
    """The reliability plot and the risk-coverage curve of one System 1."""
    from agent import plots
    from agent.cli import out

    best, kind = (one.after, "calibrated") if one.after else (one.before, "raw")
    title = f"{one.adapter or 'the base'}, {one.skill or 'all skills'}, {kind}"
    for line in (f"Reliability of {title}", *plots.reliability(best.bins)):
        out.console.print(line, markup=False, highlight=False)
    rows = [(out.percent(p.coverage), out.percent(p.risk), f"{p.threshold:.3f}") for p in best.risk_coverage[3::4]]
    out.table("Answering only the surest", ("coverage", "disagreement", "threshold"), rows)


def _write(path: Path, found: Sequence[Believed]) -> None:
    from agent.plots import reliability_svg
    from memory.errors import BadInput

    if path.suffix != ".svg":
        raise BadInput(f"{path} should end in .svg")
    panels = {}
    for one in found:
        if one.before.bins:
            title = f"{one.adapter or 'base'}, {one.skill or 'all skills'}"
            panels[f"{title}: raw"] = one.before
            panels |= {f"{title}: calibrated": one.after} if one.after else {}
    if not panels:
        raise BadInput("there is no audited answer to plot yet")
    path.write_text(reliability_svg(panels), encoding="utf-8")
