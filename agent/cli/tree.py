"""A deliberation drawn as a tree: each inner call below the call it was made from, then the votes."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from memory.records import Attempt, Call, Deliberation
from policies.skills import message_text

PROMPT_CHARS = 300  # characters of a prompt's last message that are shown
SAMPLE_CHARS = 500  # characters of a sample that are shown


def tree(deliberation: Deliberation, *, full: bool = False) -> RenderableType:
    """Prompts, samples, votes, tokens and seconds. Texts are shown literally: the end of a prompt's last message and
    the beginning of each sample, or with `full` every message and sample whole."""
    spent = f"{len(deliberation.calls)} calls, {deliberation.tokens} tokens, {deliberation.seconds:.1f} s"
    root = Tree(Text(f"{deliberation.method}: {spent}", style="bold"))
    branches: dict[int, Tree] = {}
    for call in deliberation.calls:
        above = branches[call.parents[-1]] if call.parents else root
        branches[call.id] = above.add(_heading(call))
        branches[call.id].add(Text(_whole_prompt(call) if full else _prompt(call), style="dim"))
        for sample in _samples(call, [a for a in deliberation.attempts if a.call == call.id], full=full):
            branches[call.id].add(sample)
    return Group(root, _votes(deliberation))


def _heading(call: Call) -> Text:
    tokens = sum(done.completion_tokens for done in call.completions)
    seconds = max((done.seconds for done in call.completions), default=0.0)
    asked = call.completions[0].prompt_tokens if call.completions else 0
    text = Text(f"#{call.id} {call.stage}", style="bold cyan")
    text.append(f"  {asked} prompt + {tokens} tokens, {seconds:.1f} s", style="dim")
    if len(call.parents) > 1:
        text.append(f"  from {', '.join(f'#{i}' for i in call.parents)}", style="dim")
    return text


def _prompt(call: Call) -> str:
    last = message_text(call.messages[-1]) if call.messages else ""
    turns = f"({len(call.messages)} messages) " if len(call.messages) > 1 else ""
    return f"asked: {turns}{_tail(last, PROMPT_CHARS)}"


def _whole_prompt(call: Call) -> str:
    return "asked:\n" + "\n".join(f"[{m.get('role')}] {message_text(m).strip()}" for m in call.messages)


def _samples(call: Call, votes: list[Attempt], *, full: bool) -> Iterator[Text]:
    """Every sample with its vote."""
    for i, done in enumerate(call.completions):
        text = Text(done.text.strip() if full else _head(done.text, SAMPLE_CHARS))
        if done.finish_reason == "length":
            text.append(" (cut off)", style="yellow")
        for vote in (vote for vote in votes if vote.sample == i):
            text.append(f"\n-> {vote.answer if vote.answer is not None else 'no answer'}", style="green")
            text.append(f" under {vote.perturbation}" if vote.perturbation else "", style="green")
        yield text


def _votes(deliberation: Deliberation) -> RenderableType:
    verdict = deliberation.verdict
    table = Table(title="votes", title_justify="left", show_header=False, box=None)
    for answer, count in sorted(verdict.votes.items(), key=lambda item: -item[1]):
        won = answer == verdict.answer
        table.add_row(str(count), Text(_head(answer, 80) if answer else "no answer", style="bold green" if won else ""))
    return Group(table, Text(f"{verdict.grade}-grade: {verdict.reason}"))


def _head(text: str, size: int) -> str:
    text = text.strip()
    return text if len(text) <= size else text[:size] + " ..."


def _tail(text: str, size: int) -> str:
    text = text.strip()
    return text if len(text) <= size else "... " + text[-size:]
