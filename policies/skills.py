"""Skills: how a kind of question is recognised, asked of each system, and keyed in memory.

`direct_messages` is the one definition of System 1's prompt: serving and training call it alike, so that a
lesson is learned under exactly the words under which it will be asked.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

from pydantic import Field, field_validator

from memory.errors import NotFound
from memory.records import AnswerType, Message
from memory.settings import Settings
from policies.agree import AgreementSettings

UNKNOWN = "unknown"


class Likeness(Protocol):
    """Whoever tells by its words what a question belongs to."""

    def match(self, text: str) -> str | None:
        """A skill's name; None where the text looks like none."""


class Example(Settings):
    """A worked example of a skill; System 2 is shown it, System 1 never is."""

    question: str = Field(description="the question as a user would ask it")
    reasoning: str = Field(default="", description="the steps in words; empty: the answer alone is shown")
    answer: str = Field(description="the final answer, as it should be written")


class SkillSettings(Settings):
    """One kind of question: how it is recognised, thought through, and judged."""

    name: str = Field(min_length=1, max_length=80, pattern=r"^[\w.-]+$", description="the skill's id")
    pattern: str | None = Field(
        default=None, description="regular expression searched in the last user message; case ignored"
    )
    answer_type: AnswerType = Field(default=AnswerType.SHORT_TEXT, description="how answers are extracted and compared")
    choices: tuple[str, ...] = Field(default=(), description="the allowed answers of a choice; empty: letters")
    direct: str = Field(default="", description="instruction added to the last user message when System 1 is asked")
    direct_place: Literal["after", "before"] = Field(
        default="after",
        description="where that instruction stands; before the question all questions of the skill share it (faster)",
    )
    max_answer_tokens: int = Field(default=64, ge=1, le=8192, description="tokens of a direct answer at most")
    method: str = Field(
        default="cot",
        description="System 2 method: direct, cot, rar, s2a, bsm, tot or got, each voted over as `agreement` says; "
        "vote: self-consistency of the direct answer, or of the method in options: {of: ...}",
    )
    options: Mapping[str, Any] = Field(
        default_factory=dict, description="changes to the method's settings, by field name (see system2)"
    )
    examples: tuple[Example, ...] = Field(default=(), description="worked examples shown to System 2")
    agreement: AgreementSettings = Field(default=AgreementSettings(), description="attempts, early stop and grades")
    train: bool = Field(default=True, description="whether System 1 may learn this skill (False: red-listed)")
    observe: bool = Field(
        default=False,
        description="answer such questions as those of no skill; only give them this name, and check them now and then",
    )

    @property
    def settled(self) -> bool:
        """Whether it decides who answers: not the default skill, and not one that is only observed."""
        return self.name != UNKNOWN and not self.observe

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return pattern


DEFAULT_SKILL = SkillSettings(
    name=UNKNOWN,
    answer_type=AnswerType.FREE_TEXT,
    max_answer_tokens=512,
    agreement=AgreementSettings(select="usc_select", max_samples=4),
    train=False,  # open questions have no vote to trust: serve them, do not learn from them unless told to
)


def recognise(
    messages: Sequence[Message],
    named: str | None,
    skills: Sequence[SkillSettings],
    default: SkillSettings = DEFAULT_SKILL,
    learned: Likeness | None = None,
) -> SkillSettings:
    """The skill of a request: the one the caller names, else the first whose pattern matches, else the one that its
    words look like (`learned`, from earlier questions of known skill), else `default`.

    A name that no skill has falls through to the patterns: callers may tag requests before a skill is set up.
    """
    for skill in skills:
        if named is not None and skill.name == named:
            return skill
    for skill in skills:
        if skill.pattern and fits(skill, messages):
            return skill
    alike = learned.match(last_user_text(messages)) if learned else None
    return next((skill for skill in skills if skill.name == alike), default)


def fits(skill: SkillSettings, messages: Sequence[Message]) -> bool:
    """Whether the last user message is one of the skill's by its pattern; a skill without one takes any."""
    return re.search(skill.pattern or "", last_user_text(messages), re.IGNORECASE | re.DOTALL) is not None


def direct_messages(messages: Sequence[Message], skill: SkillSettings) -> tuple[Message, ...]:
    """System 1's prompt: the caller's messages, the skill's `direct` line added to the last user message.

    Before the question it is a prefix that all of the skill's prompts have in common: the engine's prefix cache and
    the trainer's token trees then compute it once.
    """
    if not skill.direct:
        return tuple(messages)
    return (with_prefix if skill.direct_place == "before" else with_suffix)(messages, skill.direct)


def with_prefix(messages: Sequence[Message], prefix: str) -> tuple[Message, ...]:
    """The messages with a line put before the last user message's text (a message of its own where there is none)."""
    last = _last_user(messages)
    if last is None:
        return (*messages, {"role": "user", "content": prefix})
    content = messages[last].get("content")
    longer: Any = [{"type": "text", "text": prefix}, *content] if isinstance(content, list) else f"{prefix}\n{content}"
    return (*messages[:last], {**messages[last], "content": longer}, *messages[last + 1 :])


def with_suffix(messages: Sequence[Message], suffix: str) -> tuple[Message, ...]:
    """The messages with a line added to the last user message (a message of its own where there is none)."""
    last = _last_user(messages)
    if last is None:
        return (*messages, {"role": "user", "content": suffix})
    content = messages[last].get("content")
    longer: Any = [*content, {"type": "text", "text": suffix}] if isinstance(content, list) else f"{content}\n{suffix}"
    return (*messages[:last], {**messages[last], "content": longer}, *messages[last + 1 :])


def with_text(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The messages with the last user message's text replaced; its other parts (images) stay."""
    last = _last_user(messages)
    if last is None:
        return (*messages, {"role": "user", "content": text})
    content = messages[last].get("content")
    parts = [p for p in content if p.get("type") != "text"] if isinstance(content, list) else []
    new: Any = [*parts, {"type": "text", "text": text}] if parts else text
    return (*messages[:last], {**messages[last], "content": new}, *messages[last + 1 :])


def last_user_text(messages: Sequence[Message]) -> str:
    """The text of the last user message; "" where there is none."""
    last = _last_user(messages)
    return "" if last is None else message_text(messages[last])


def without_question(messages: Sequence[Message]) -> tuple[Message, ...]:
    """All messages but the last user message."""
    last = _last_user(messages)
    return tuple(message for i, message in enumerate(messages) if i != last)


def message_text(message: Message) -> str:
    """A message's text: its content, or the text parts of it joined."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content if part.get("type") == "text")


_json = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` makes an encoder for every call


def prompt_key(messages: Sequence[Message]) -> str:
    """sha256 of the conversation with case and white space normalised, hex: one key for one question."""
    turns = [[str(m.get("role", "")), _normal(m)] for m in messages]
    return hashlib.sha256(_json(turns).encode()).hexdigest()


def is_heldout(key: str, share: float = 0.1) -> bool:
    """Whether the question with this key is never trained on. `share`: 0..1 of all questions, by hash."""
    return int(key[:13], 16) / 16**13 < share


def _normal(message: Message) -> str:
    content = message.get("content") or ""
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True, ensure_ascii=False)
    return " ".join(text.casefold().split())


def _last_user(messages: Sequence[Message]) -> int | None:
    return next((i for i in reversed(range(len(messages))) if messages[i].get("role") == "user"), None)


def unknown_skill(name: str, known: Collection[str]) -> NotFound:
    """The fault of a name that no skill has: with the nearest one, and those there are."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return NotFound(f"there is no skill {name!r}; {hint}The skills are: {', '.join(known) or 'none'}", param="skill")
