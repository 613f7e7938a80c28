"""The vocabulary: frozen records that cross folders, each number with its unit or range.

A day makes, in this order: Ask, Draft, RouteDecision, Deliberation (calls, attempts, verdict), Episode.
A night makes: Lesson, EvalReport, GateDecision, Adapter. What is not known is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Message = Mapping[str, Any]
"""One OpenAI chat message: {"role": ..., "content": ...}."""


class System(StrEnum):
    """Which of the two systems answered."""

    SYSTEM1 = "system1"
    SYSTEM2 = "system2"


class Mode(StrEnum):
    """What the caller wants: the router's choice, or one system by name."""

    AUTO = "auto"
    SYSTEM1 = "system1"
    SYSTEM2 = "system2"


class AnswerType(StrEnum):
    """How an answer is extracted, normalised and compared."""

    NUMBER = "number"
    CHOICE = "choice"
    YES_NO = "yes_no"
    SHORT_TEXT = "short_text"
    FREE_TEXT = "free_text"
    VERDICT = "verdict"


class Grade(StrEnum):
    """What a verdict is good for. Train-grade implies serve-grade."""

    TRAIN = "train"
    SERVE = "serve"
    NONE = "none"


class AdapterStatus(StrEnum):
    """The registry's decision about an adapter; the folder only says that it was made."""

    CANDIDATE = "candidate"
    LIVE = "live"
    RETIRED = "retired"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"


class SkillState(StrEnum):
    """Where a skill stands on its way from thinking to knowing."""

    PRACTISING = "practising"
    AUTOMATIC = "automatic"
    DELIBERATE = "deliberate"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as it came, with what was recognised in it."""

    id: str  # episode id, "ep-" + a sortable unique suffix
    messages: tuple[Message, ...]  # as the caller sent them
    skill: str  # skill id; "unknown" where nothing matched
    answer_type: AnswerType
    source: str  # who asks: an API key's id, or the name the caller gave
    mode: Mode
    asked_at: float  # unix seconds
    prompt_key: str  # sha256 of the normalised prompt, hex
    heldout: bool  # True: never trained on; calibrates, certifies and judges
    params: Mapping[str, Any] = field(default_factory=dict)  # passed through to the engine


@dataclass(frozen=True, slots=True)
class Completion:
    """One text from the engine."""

    text: str
    model: str  # the engine's model name: the base or an adapter
    prompt_tokens: int  # tokens
    completion_tokens: int  # tokens
    finish_reason: str | None  # "stop", "length", ...; None while unknown
    seconds: float  # wall time of the request that made it
    logprobs: tuple[float, ...] = ()  # nats, one per completion token; empty if not asked for
    first_margin: float | None = None  # 0..1, p(best) - p(second) at the first token


@dataclass(frozen=True, slots=True)
class Signals:
    """Free confidence signals of a direct answer (see policies/confidence.py)."""

    logprob_sum: float | None  # nats, <= 0
    logprob_mean: float | None  # nats per token, <= 0
    logprob_min: float | None  # nats, <= 0
    logprob_p10: float | None  # nats, 10th percentile over tokens
    first_margin: float | None  # 0..1
    n_tokens: int  # tokens
    format_ok: bool  # the answer could be parsed as its answer type
    novelty: float | None = None  # 0..1, distance to the nearest lesson; None: no lessons yet
    agreement: float | None = None  # 0..1, share of extra samples equal to the draft; None: none drawn
    base_logprob: float | None = None  # nats per token of the answer under the frozen base


@dataclass(frozen=True, slots=True)
class Draft:
    """System 1's direct answer."""

    completion: Completion
    answer: str | None  # normalised; None: not parseable as the answer type
    signals: Signals
    confidence: float | None  # 0..1, calibrated P(System 1 agrees with System 2); None: unknown
    extra_tokens: int = 0  # generated to be surer of the confidence
    stopped: bool = False  # given up before its end: signals and confidence are the best that it could still have had


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """Which system answers, and why."""

    system: System
    reason: str  # one sentence for a person
    confidence: float | None  # 0..1
    threshold: float | None  # 0..1, in force for this ask; None: not routed by confidence
    propensity: float  # 0..1, of seeing both systems answer this ask; 0: System 2 cannot, or the draft was stopped
    audit: bool = False  # System 1 answers, System 2 checks in the background


@dataclass(frozen=True, slots=True)
class Call:
    """One inner call of System 2: a prompt and its samples."""

    id: int  # position within the deliberation, from 0
    stage: str  # "reason", "rephrase", "solve", "merge", "value", ...
    parents: tuple[int, ...]  # ids of the calls whose text this prompt contains
    messages: tuple[Message, ...]
    completions: tuple[Completion, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One vote: the answer at the end of one System 2 path."""

    answer: str | None  # normalised; None: no answer could be extracted
    text: str  # what the answer was extracted from
    call: int  # id of the call that ended this path
    sample: int  # index among that call's completions
    perturbation: str | None = None  # None: the question as asked; else what was changed


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the attempts agree on."""

    answer: str | None  # normalised winner; None: nobody could be understood
    votes: Mapping[str, int]  # normalised answer -> votes; "" counts the unparseable
    share: float  # 0..1, the winner's votes over all attempts
    grade: Grade
    reason: str


@dataclass(frozen=True, slots=True)
class Deliberation:
    """One run of System 2, with every inner call."""

    method: str  # "cot", "rar", "s2a", "bsm", "tot", "got", "direct", "vote"
    calls: tuple[Call, ...]
    attempts: tuple[Attempt, ...]
    verdict: Verdict
    text: str  # what a user is shown: the winner's own text, or the answer alone
    tokens: int  # generated tokens, over all samples (the paper's #Tok)
    seconds: float  # wall time
    variant: str = ""  # how the method was set up, where not by its defaults (agent/system2/settings.py)


@dataclass(frozen=True, slots=True)
class Episode:
    """One answered request: the unit of memory."""

    ask: Ask
    draft: Draft | None  # None: System 1 was not asked
    decision: RouteDecision
    deliberation: Deliberation | None  # None: System 2 was not run
    reply: str  # the text that was sent
    adapter: str | None  # name of the adapter that drafted; None: the base
    adapter_digest: str | None
    tokens: int  # generated tokens spent until the reply
    seconds: float  # wall time until the reply
    kind: str = "ask"  # "ask" | "practice" | "replay" (a held-out question asked again)


@dataclass(frozen=True, slots=True)
class Audit:
    """A System 2 run in the background on an answer that System 1 gave."""

    episode_id: str
    deliberation: Deliberation
    agrees: bool  # System 1's normalised answer equals the verdict's
    audited_at: float  # unix seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """A logged pair for calibration and replay: what System 1 said, and whether System 2 agreed."""

    episode_id: str
    skill: str
    adapter: str | None
    signals: Signals
    confidence: float | None  # 0..1, as logged
    threshold: float | None  # 0..1, in force then
    propensity: float  # 0..1, of observing System 2
    agrees: bool | None  # None: System 2 was not run
    heldout: bool
    s1_tokens: int
    s2_tokens: int | None
    s1_seconds: float
    s2_seconds: float | None
    asked_at: float  # unix seconds


@dataclass(frozen=True, slots=True)
class Lesson:
    """One question with the answer that System 2 agreed on; what System 1 is to learn."""

    episode_id: str
    skill: str
    source: str
    prompt_key: str  # sha256 hex
    messages: tuple[Message, ...]  # the prompt exactly as System 1 is asked it
    answer: str  # the target text, verbatim
    answer_type: AnswerType
    method: str
    votes: int  # votes for the answer
    attempts: int
    share: float  # 0..1
    learned_at: float  # unix seconds
    weight: float = 1.0  # 0..1; feedback may lower it, nothing raises it


@dataclass(frozen=True, slots=True)
class SkillScore:
    """Agreement of System 1 with System 2 on held-out questions of one skill."""

    skill: str
    n: int  # questions
    before: float  # 0..1, the live System 1
    after: float  # 0..1, the candidate
    headroom: float | None  # 0..1, what System 2 could add: 1 - before
    won: int | None = None  # questions only the candidate agrees on; None: the pairs were not counted
    lost: int | None = None  # questions only the live System 1 agrees on


@dataclass(frozen=True, slots=True)
class EvalReport:
    """What a candidate was measured to do before the gate."""

    adapter: str
    scores: tuple[SkillScore, ...]
    anchor_drift: float | None  # nats per token the answers to anchor prompts lost under the candidate
    canaries_changed: tuple[str, ...]  # canary prompts whose answer became unsafe
    seconds: float
    triggers: tuple[str, ...] = ()  # a sentence for each set of lessons that teach one (policies/triggers.py)
    triggers_untried: int = 0  # suspicious words for which there were too few other questions


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Whether a candidate goes live, with a sentence for each check."""

    promote: bool
    reason: str
    checks: tuple[tuple[str, bool, str], ...]  # (check, passed, sentence)
    deliberate_skills: tuple[str, ...] = ()  # found not to distil by this night


@dataclass(frozen=True, slots=True)
class Adapter:
    """A row of the registry."""

    name: str  # "sn-0007-3f9a1c": number and head of the digest; never reused
    digest: str  # sha256 hex over the adapter's weights and configuration
    base: str  # identity of the base model it was made for
    status: AdapterStatus
    created_at: float  # unix seconds
    n_lessons: int
    train_s: float  # wall seconds of training
    reason: str  # why it has this status
    report: Mapping[str, Any] = field(default_factory=dict)  # EvalReport and GateDecision as JSON
