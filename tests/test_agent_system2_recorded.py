"""Every method on what a real model really said (tests/data/recorded_outputs.json): prompts, parsers and votes."""

from __future__ import annotations

import io
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from rich.console import Console

from agent.cli.tree import tree
from agent.engine.wire import Sampling
from agent.system2.deliberate import deliberate
from agent.system2.problem import Problem, user
from agent.system2.reasoning import reasoning
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.records import AnswerType, Attempt, Call, Completion, Deliberation, Grade, Message, Verdict
from policies import agree, answers
from policies.agree import AgreementSettings
from policies.skills import SkillSettings
from record_outputs import CASES, FILE

RECORDED: Mapping[str, Any] = orjson.loads(FILE.read_bytes())


class Replay:
    """Answers each recorded prompt with what was said to it then, in that order."""

    def __init__(self, calls: Sequence[Mapping[str, Any]]) -> None:
        self._said: dict[bytes, deque[Any]] = defaultdict(deque)
        for call in calls:
            self._said[_key(call["messages"])].append(call["completions"])

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        said = self._said[_key(messages)].popleft()
        assert len(said) == sampling.n
        return tuple(Completion(**{**done, "logprobs": tuple(done["logprobs"])}) for done in said)


def _key(messages: Sequence[Message]) -> bytes:
    return orjson.dumps(list(messages), option=orjson.OPT_SORT_KEYS)


async def replay(name: str) -> Deliberation:
    recorded = RECORDED[name]
    problem = Problem(user(recorded["question"]), SkillSettings.model_validate(recorded["skill"]))
    return await deliberate(problem, Think(Replay(recorded["deliberation"]["calls"]), "base"), System2Settings())


@pytest.mark.parametrize("name", sorted(RECORDED))
async def test_the_recorded_thought_is_thought_again(name: str) -> None:
    thought, before = await replay(name), RECORDED[name]["deliberation"]
    assert thought.verdict.answer == before["verdict"]["answer"]
    assert dict(thought.verdict.votes) == before["verdict"]["votes"]
    assert thought.tokens == before["tokens"]
    assert sorted(call.stage for call in thought.calls) == sorted(call["stage"] for call in before["calls"])
    assert all(parent < call.id for call in thought.calls for parent in call.parents)
    assert thought.verdict.reason in reasoning(thought)
    assert tree(thought) is not None


def drawn(thought: Deliberation, *, full: bool) -> str:
    console = Console(width=400, file=io.StringIO())
    console.print(tree(thought, full=full))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_the_tree_shows_prompts_samples_votes_tokens_and_seconds() -> None:
    thought = await replay("cot few-shot")
    for full in (False, True):
        shown = drawn(thought, full=full)
        assert f"cot: 2 calls, {thought.tokens} tokens, {thought.seconds:.1f} s" in shown
        assert "What is 26 + 81 + 77?" in shown
        assert "26 + 81 = 107. 107 + 77 = 184. The answer is 184." in shown
        assert "-> 274 under example_order" in shown
        assert "4  184" in shown
        assert "serve-grade: 4 of 5 attempts agree" in shown
        first = thought.calls[0].completions
        spent = f"{first[0].prompt_tokens} prompt + {sum(done.completion_tokens for done in first)} tokens"
        assert f"#0 reason  {spent}, {max(done.seconds for done in first):.1f} s" in shown
        assert ("[assistant] 12 + 35 = 47. 47 + 48 = 95. The answer is 95." in shown) is full


def test_the_tree_cuts_long_texts_unless_it_is_to_be_full() -> None:
    asked, said = "first " + "x" * 600 + " last", "begin " + "y" * 600 + " end"
    call = Call(0, "reason", (), user(asked), (Completion(said, "base", 7, 10, "stop", 0.1),))
    verdict = Verdict("7", {"7": 1}, 1.0, Grade.SERVE, "1 of 1 attempts agree")
    thought = Deliberation("cot", (call,), (Attempt("7", said, 0, 0),), verdict, "7", 10, 0.1)
    short, whole = (drawn(thought, full=full).replace("\n", "") for full in (False, True))
    assert ("first" in short, "last" in short, "begin" in short, " end" in short) == (False, True, True, False)
    assert all(word in whole for word in ("first", "last", "begin", " end"))


@pytest.mark.parametrize(
    ("name", "said", "stops"), [("cot few-shot", "4 votes to 0", True), ("direct voted", "3 votes to 1", False)]
)
def test_the_early_stop_on_what_was_really_voted(name: str, said: str, stops: bool) -> None:
    texts = [done["text"] for done in RECORDED[name]["deliberation"]["calls"][0]["completions"]]
    kind = AnswerType(RECORDED[name]["skill"]["answer_type"])
    cast = [answers.extract(text, kind) for text in texts]
    decision = agree.stop(cast, AgreementSettings())
    assert (len(cast), decision.stop) == (4, stops)
    assert decision.reason.startswith(said)


def test_what_is_recorded_is_a_known_case_asked_as_it_is_asked_now() -> None:
    assert RECORDED
    for name, recorded in RECORDED.items():
        assert {key: recorded[key] for key in ("question", "skill")} == orjson.loads(orjson.dumps(CASES[name]))


def test_every_case_is_recorded() -> None:
    assert set(RECORDED) == set(CASES)
