"""Every method on what a real model really said (tests/data/recorded_outputs.json): prompts, parsers and votes."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from agent.cli.tree import tree
from agent.engine.wire import Sampling
from agent.system2.deliberate import deliberate
from agent.system2.problem import Problem, user
from agent.system2.reasoning import reasoning
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.records import Completion, Deliberation, Message
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


def test_what_is_recorded_is_a_known_case_asked_as_it_is_asked_now() -> None:
    assert RECORDED
    for name, recorded in RECORDED.items():
        assert {key: recorded[key] for key in ("question", "skill")} == orjson.loads(orjson.dumps(CASES[name]))
