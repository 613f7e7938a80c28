"""System 2's settings: the budget, the sampling, and one block per method. A skill's `options` change the
block."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError

from memory.errors import BadConfig
from memory.settings import Settings
from policies.skills import SkillSettings


class DirectSettings(Settings):
    """The direct answer of the base, sampled: the paper's Distill System 1."""


class CotSettings(Settings):
    """Chain of thought."""

    variant: Literal["one_call", "two_calls"] = Field(
        default="one_call", description="reason and answer at once, or ask for the answer in a second call"
    )
    examples_as: Literal["turns", "text"] = Field(
        default="turns", description="worked examples as earlier turns of the chat, or as one text"
    )
    instruction: str = Field(
        default="Let's think step by step.", description="added to the question where there are no examples"
    )
    max_answer_tokens: int = Field(default=32, ge=1, description="tokens of the second call, at most")


class System2Settings(Settings):
    """How long System 2 may think, and how each method works."""

    temperature: float = Field(
        default=0.7, ge=0, le=2, description="of sampled attempts; a single one is greedy"
    )
    max_tokens: int = Field(default=400, ge=1, description="tokens of one reasoning text, at most")
    budget_tokens: int = Field(default=24_000, ge=1, description="tokens that one question may cost, at most")
    budget_s: float = Field(default=300.0, gt=0, description="seconds that one question may take, at most")
    direct: DirectSettings = Field(default=DirectSettings(), description="method direct")
    cot: CotSettings = Field(default=CotSettings(), description="method cot")

    def for_skill(self, skill: SkillSettings) -> System2Settings:
        """These settings with the skill's `options` put into its method's block (and into the top level for
        `temperature`, `max_tokens` and the budgets). Raises BadConfig for an unknown or wrong option.
        """
        own = {key: value for key, value in skill.options.items() if key in _SHARED}
        block = {key: value for key, value in skill.options.items() if key not in _SHARED}
        data = self.model_dump()
        try:
            return System2Settings.model_validate(
                {**data, **own, skill.method: {**data.get(skill.method, {}), **block}}
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadConfig(f"skill {skill.name}: options: {where}: {first['msg']}") from error


_SHARED = frozenset({"temperature", "max_tokens", "budget_tokens", "budget_s"})
