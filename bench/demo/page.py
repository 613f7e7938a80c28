"""report.html: one self-contained page with the learning curve, readable without colour, mouse or script."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from bench.demo.curve import curve, dumbbells
from bench.demo.table import number, percent, seconds

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #596275; --line: #d6dae2; --ground: #fbfbfd;
        --before: #8a93a6; --after: #0b5fb0; --teacher: #9a4d00; --card: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --soft: #a4adbd; --line: #353c4a; --ground: #12151b;
        --before: #8690a3; --after: #6db4ff; --teacher: #f0a04b; --card: #1a1f28; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem }
p { max-width: 44rem } .soft, figcaption { color: var(--soft) }
figure { margin: 1rem 0 } figure svg { width: 100%; height: auto; background: var(--card);
        border: 1px solid var(--line); border-radius: .5rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } thead th { vertical-align: bottom; white-space: normal }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif } svg .soft { fill: var(--soft) }
svg .grid { stroke: var(--line) } svg .before { fill: var(--before); stroke: var(--before) }
svg .after { fill: var(--after); stroke: var(--after) } svg .teacher { stroke: var(--teacher); fill: none }
svg .trail { stroke: var(--after); fill: none; stroke-width: 2 }
li { margin: .2rem 0 } code { font-size: .9em }
"""


def page(report: Mapping[str, Any]) -> str:
    """The whole page. `report`: what report.json holds."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>What one night changed</title><style>{STYLE}</style></head><body><main>
<h1>What one night changed</h1>
{_summary(report)}
<h2>System 1, before and after</h2>
<figure>{dumbbells(report)}<figcaption>Share of right direct answers on held-out questions that were never lessons.
Ring: before. Disc: after. Dashed bar: System 2, the teacher, on the day's questions.</figcaption></figure>
<h2>By number of lessons</h2>
<figure>{curve(report)}<figcaption>System 1's accuracy on the same held-out questions, against the lessons of
each skill that its adapter had learnt. A lesson is a question on whose answer System 2 agreed with itself; nobody
gave the right answer.</figcaption></figure>
<h2>All figures</h2>
<div class="scroll">{_table(report)}</div>
<p class="soft">System 2, its share, tokens and latency before are those of the day's own questions in auto mode; after:
held-out questions in auto mode. Latency is what a user waited, with many questions under way at once.</p>
<h2>The gate</h2>
{_gate(report)}
<h2>The swap</h2>
{_swap(report)}
</main></body></html>
"""


def _summary(report: Mapping[str, Any]) -> str:
    lifted = [(s, r) for s, r in report["skills"].items() if (r["s1_after"] or 0) - (r["s1_before"] or 0) >= 0.1]
    said = "; ".join(f"{escape(_words(s))} {percent(r['s1_before'])} → {percent(r['s1_after'])}" for s, r in lifted)
    return (
        f"<p>Direct answers got better without anyone saying what is right: {said or 'nothing moved this time'}.</p>"
        f'<p class="soft">Model {escape(str(report["model"]))}, engine {escape(str(report["engine"]))}, adapter '
        f"{escape(str(report['adapter']))}, training {report['train_s']:.0f} s, everything "
        f"{report['wall_s'] / 60:.1f} minutes, first answer after {report['first_answer_s']:.0f} s.</p>"
    )


HEADINGS = (
    "skill", "held-out questions", "lessons", "lessons that are right", "System 1 before", "System 1 after",
    "System 2", "by System 1 before", "by System 1 after", "tokens per answer before", "tokens per answer after",
    "median latency before", "median latency after",
)  # fmt: skip


def _table(report: Mapping[str, Any]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in HEADINGS)
    body = "".join(f"<tr>{_row(skill, row)}</tr>" for skill, row in report["skills"].items())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(skill: str, row: Mapping[str, Any]) -> str:
    shares = ("s1_before", "s1_after", "s2", "system1_share_before", "system1_share_after")
    cells = [str(row["n_heldout"]), str(row["n_lessons"]), percent(row["lesson_precision"])]
    cells += [percent(row[key]) for key in shares]
    cells += [number(row["tokens_before"]), number(row["tokens_after"])]
    cells += [seconds(row["median_s_before"]), seconds(row["median_s_after"])]
    return f'<th scope="row">{escape(_words(skill))}</th>' + "".join(f"<td>{cell}</td>" for cell in cells)


def _gate(report: Mapping[str, Any]) -> str:
    checks = (report["gate"] or {}).get("checks") or ()
    lines = "".join(
        f"<li>{'passed' if passed else '<strong>failed</strong>'}: {escape(str(name))}. {escape(str(sentence))}</li>"
        for name, passed, sentence in checks
    )
    return f"<p>{escape(str(report['outcome']))}: {escape(str(report['reason']))}</p><ul>{lines}</ul>"


def _swap(report: Mapping[str, Any]) -> str:
    swap = report["swap"]
    return (
        f"<p>{swap['requests_during']} requests were under way from the examination to the end of the swap; "
        f"{swap['failed']} failed. Loading the adapter took {seconds(swap['load_s'])}, "
        f"p99 latency meanwhile {seconds(swap['p99_s'])}.</p>"
    )


def _words(skill: str) -> str:
    return skill.replace("_", " ")
