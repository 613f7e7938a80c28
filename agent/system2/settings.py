"""System 2's settings: the budget, the sampling, and one block per method. A skill's `options` change the
block."""

from __future__ import annotations

from hashlib import sha256
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


class RarSettings(Settings):
    """Rephrase and Respond."""

    variant: Literal["one_step", "two_step"] = Field(default="two_step", description="one call or two")
    send: Literal["rephrased", "both"] = Field(
        default="rephrased", description="what the second step is sent: the rephrased question, or the original too"
    )
    request: str = Field(
        default="Rephrase and expand this question so that it is easier to answer. Keep every name, number and "
        "detail. Do not answer it. Reply only with the new question.",
        description="added to the question in the first of two steps",
    )
    one_step_request: str = Field(
        default="Reword and elaborate on the question first, then answer it.",
        description="added to the question where there is one step",
    )
    answer_request: str = Field(default="", description="added to the rephrased question in the second step")
    answers_each: int = Field(default=1, ge=1, le=64, description="answers drawn for each rephrased question")


class S2aSettings(Settings):
    """System 2 Attention."""

    request: str = Field(
        default="Below is a text by a user. Take out of it every opinion, guess and irrelevant remark, and write "
        'down what is left in two parts. First, under the heading "Unbiased text context:", the facts that help '
        'to answer. Then, under the heading "Question:", the question that the user asks, without the user\'s '
        "opinion.",
        description="put before the user's text in the first stage",
    )
    answer_request: str = Field(
        default="Answer in an unbiased way.", description="added to the rewritten text in the second stage"
    )


class BsmSettings(Settings):
    """Branch-Solve-Merge."""

    criteria: int = Field(default=5, ge=1, le=10, description="criteria to judge by, at most")
    merge: Literal["sum", "model"] = Field(default="sum", description="who merges: the sums, or the model")
    orders: Literal["both", "asked"] = Field(
        default="both", description="both orders of the responses in one attempt, or the asked one alone"
    )
    plan_tokens: int = Field(default=200, ge=8, description="tokens of the plan, at most")
    score_tokens: int = Field(default=24, ge=4, description="tokens of one evaluation, at most")
    merge_tokens: int = Field(default=160, ge=8, description="tokens of the model's merge, at most")


class TotSettings(Settings):
    """Tree of Thoughts."""

    steps: int = Field(default=4, ge=1, le=32, description="levels of the tree, at most")
    propose: int = Field(default=3, ge=1, le=64, description="next steps drawn from each kept state")
    values: int = Field(default=3, ge=1, le=64, description="judgements of each new state")
    keep: int = Field(default=2, ge=1, le=64, description="states kept at each level")
    step_tokens: int = Field(default=80, ge=4, description="tokens of one step, at most")
    value_tokens: int = Field(default=8, ge=1, description="tokens of one judgement, at most")
    instruction: str = Field(
        default="Let's think step by step, one short step on each line.",
        description="added to the question where there are no examples",
    )


class GotSettings(Settings):
    """Graph of Thoughts."""

    operations: tuple[Literal["generate", "score", "keep_best", "aggregate", "improve"], ...] = Field(
        default=("generate", "score", "keep_best", "aggregate", "score", "improve", "score"),
        min_length=1,
        description="the plan: operations in order; the first is generate",
    )
    generate: int = Field(default=4, ge=1, le=64, description="solutions that generate draws")
    keep: int = Field(default=2, ge=1, le=64, description="solutions that keep_best keeps")
    score_by: Literal["agreement", "model"] = Field(
        default="agreement", description="a solution's score: share with the same answer, or the model's judgement"
    )
    score_samples: int = Field(default=3, ge=1, le=64, description="judgements of each solution by the model")
    improve_tries: int = Field(default=3, ge=1, le=16, description="corrected versions that improve draws")


class System2Settings(Settings):
    """How long System 2 may think, and how each method works."""

    temperature: float = Field(default=0.7, gt=0, le=2, description="of sampled attempts; a single one is greedy")
    max_tokens: int = Field(default=400, ge=1, description="tokens of one reasoning text, at most")
    budget_tokens: int = Field(default=24_000, ge=1, description="tokens that one question may cost, at most")
    budget_s: float = Field(default=300.0, gt=0, description="seconds that one question may take, at most")
    direct: DirectSettings = Field(default=DirectSettings(), description="method direct")
    cot: CotSettings = Field(default=CotSettings(), description="method cot")
    rar: RarSettings = Field(default=RarSettings(), description="method rar")
    s2a: S2aSettings = Field(default=S2aSettings(), description="method s2a")
    bsm: BsmSettings = Field(default=BsmSettings(), description="method bsm")
    tot: TotSettings = Field(default=TotSettings(), description="method tot")
    got: GotSettings = Field(default=GotSettings(), description="method got")
    usc_chars: int = Field(
        default=4_000, ge=200, description="characters of responses shown at once when the model selects or composes"
    )

    def attempt_temperature(self, skill: SkillSettings, n: int) -> float:
        """Of `n` attempts drawn at once: greedy where the vote is a single attempt.

        vLLM refuses n > 1 at temperature 0.
        """
        return 0.0 if n == 1 and skill.agreement.max_samples == 1 else self.temperature

    def for_skill(self, skill: SkillSettings) -> System2Settings:
        """These settings with the skill's `options` put into its method's block (and into the top level for
        `temperature`, `max_tokens` and the budgets). Raises BadConfig for an unknown or wrong option.
        """
        skill = voted(skill)
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
            known = ", ".join([*type(getattr(self, skill.method)).model_fields, *sorted(_SHARED)])
            raise BadConfig(
                f"skill {skill.name}: options: {where}: {first['msg']}; options of {skill.method}: {known}"
            ) from error

    def variant(self, skill: SkillSettings) -> str:
        """What makes the skill's method another than its defaults, to tell runs apart: "variant=one_step, ..."; "" if
        nothing does. A long text is told by the head of its hash, examples by their number; the vote is left out.
        """
        of = {"of": voted(skill).method} if skill.method == "vote" else {}
        own, skill = self.for_skill(skill), voted(skill)
        block, usual = getattr(own, skill.method, None), getattr(System2Settings(), skill.method, None)
        told = of | {name: value for name, value in block or () if value != getattr(usual, name)}
        told |= {name: getattr(own, name) for name in _SAMPLING & skill.options.keys()}
        told |= {"examples": len(skill.examples)} if skill.examples else {}
        return ", ".join(f"{name}={_short(value)}" for name, value in sorted(told.items()))


def voted(skill: SkillSettings) -> SkillSettings:
    """The skill whose method is voted over: of `vote` that is its option `of`, else the direct answer. Every
    method is voted over under `agreement`, so that any other skill stays as it is."""
    if skill.method != "vote":
        return skill
    rest = {key: value for key, value in skill.options.items() if key != "of"}
    return skill.model_copy(update={"method": str(skill.options.get("of", "direct")), "options": rest})


def _short(value: object) -> str:
    """A setting's value; a text that would fill a table's column by the first six digits of its sha256."""
    said = ">".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return said if len(said) <= SHORT_CHARS else f"#{sha256(said.encode()).hexdigest()[:6]}"


SHORT_CHARS = 16
_SAMPLING = frozenset({"temperature", "max_tokens"})
_SHARED = _SAMPLING | {"budget_tokens", "budget_s"}
