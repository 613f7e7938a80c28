"""Agreement without labels: count the attempts' votes, say when more cannot help, grade the winner.

Two grades. Serve-grade: any plurality. Train-grade: a share of enough attempts, a strict majority, and the
same answer under a changed input where the skill asks for it (System 2 Distillation, section 3.2); of
judgements those with a winner alone, as the paper keeps only winners that survive the swap (section 4.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

from pydantic import Field

from memory.records import AnswerType, Attempt, Grade, Verdict
from memory.settings import Settings
from policies import answers

_BY_MODEL = {"usc_select": "selected", "usc_compose": "composed"}
_TIE = "C"  # of a pairwise verdict
MOST_DRAWN = 8  # attempts in one request, where `block` is not more
Perturbation = Literal["option_order", "response_order", "paraphrase", "example_order"]


class AgreementSettings(Settings):
    """How many attempts are drawn for a question, and what their votes are good for."""

    block: int = Field(
        default=3, ge=1, le=64, description="attempts drawn first, in one request; then as many as may decide"
    )
    max_samples: int = Field(default=8, ge=1, le=256, description="attempts at most, without the perturbed ones")
    stop: Literal["certain", "beta", "never"] = Field(
        default="beta", description="early stop: see policies/agree.py `stop`"
    )
    stop_confidence: float = Field(
        default=0.89, gt=0.5, lt=1, description="0..1, posterior at which the Beta rule stops"
    )
    cancel: bool = Field(default=False, description="stop as soon as train-grade is out of reach; practice always does")
    serve_share: float = Field(default=0.0, ge=0, le=1, description="0..1, least share of the votes for serve-grade")
    train_share: float = Field(default=0.75, ge=0, le=1, description="0..1, least share of the votes for train-grade")
    train_attempts: int = Field(default=3, ge=1, le=256, description="attempts that train-grade needs at least")
    perturb: tuple[Perturbation, ...] = Field(
        default=(), description="input changes under which the answer must not change"
    )
    perturb_samples: int = Field(default=1, ge=1, le=16, description="attempts drawn for each input change")
    select: Literal["majority", "usc_select", "usc_compose"] = Field(
        default="majority",
        description="how free texts get a winner: words in common, or the model selects or composes",
    )


@dataclass(frozen=True, slots=True)
class StopDecision:
    """Whether to draw no more attempts."""

    stop: bool
    reason: str
    error: float | None = None  # 0..1, bound on the chance that the leader is not; None: not stopped


def stop(votes: Sequence[str | None], settings: AgreementSettings, cap: int | None = None) -> StopDecision:
    """Whether the attempts so far decide the vote. `votes`: normalised answers; `cap`: attempts at most.

    - "certain": stop when the rest cannot change the winner. Error 0: always the winner of the full draw.
    - "beta" (Adaptive-Consistency, Aggarwal et al. 2023): stop when the posterior that the leader is more
      probable than the runner-up, P(Beta(v1+1, v2+1) > 1/2), reaches `stop_confidence` c; the error of one
      look is at most 1 - c. At c = 0.89 it stops at 3 to 0 (0.938), 4 to 1 (0.891) and 6 to 2 (0.910).
      Simulated up to 8 (`python -m bench.stopping`: half of the wrong answers on one distractor, 20,000
      questions of each kind): the winner is not that of all 8 in 0.00, 0.03, 0.27, 0.21, 0.22 % of the
      questions at a per-sample accuracy of 0.95, 0.8, 0.6, 0.4, 0.3, for 3.3, 4.4, 5.8, 6.9, 7.1 samples.
    - "never": always draw the cap.
    """
    return _stopped(*_leaders(votes), len(votes), settings, settings.max_samples if cap is None else cap)


def needed(votes: Sequence[str | None], settings: AgreementSettings) -> int:
    """Attempts to draw next, in one request: `block` at first, then the fewest after which `stop` may stop, but no
    more than `block` or 8: a budget is shared out over a request's samples before it is known how long they get.

    Those are all for the leader, or all unlike. Whatever they turn out to be, drawing them one by one would not have
    stopped before the last of them: no attempt is drawn in vain, and no request is made for one that could have
    gone with another.
    """
    n, cap = len(votes), settings.max_samples
    if not votes:
        return min(settings.block, cap)
    first, second = _leaders(votes)
    for more in range(1, min(cap - n, max(settings.block, MOST_DRAWN))):
        if any(_stopped(leading, second, n + more, settings, cap).stop for leading in (first + more, first)):
            return more
    return max(min(cap - n, max(settings.block, MOST_DRAWN)), 0)


def _stopped(first: int, second: int, n: int, settings: AgreementSettings, cap: int) -> StopDecision:
    """`stop` by the votes of the leader and of the runner-up among `n`."""
    if n >= cap:
        return StopDecision(True, f"all {n} attempts drawn", 0.0)
    enough = n >= min(settings.train_attempts, cap)  # with fewer, the clearest questions could never teach
    if enough and settings.stop != "never" and first > second + cap - n:
        return StopDecision(True, f"{first} of {n} votes, the remaining {cap - n} cannot change the winner", 0.0)
    if enough and settings.stop == "beta" and (sure := leader_posterior(first, second)) >= settings.stop_confidence:
        return StopDecision(True, f"{first} votes to {second}: ahead with posterior {sure:.3f}", 1.0 - sure)
    if settings.cancel and first + cap - n < settings.train_share * cap:
        return StopDecision(True, f"{first} of {n} votes: train-grade is out of reach", 1.0)
    return StopDecision(False, f"{first} votes to {second} after {n} of {cap}")


def leader_posterior(first: int, second: int) -> float:
    """P(Beta(first + 1, second + 1) > 1/2), 0..1: the chance that the leader is the more probable one."""
    n = first + second + 1
    return float(sum(comb(n, k) for k in range(first + 1)) / 2**n)


def verdict(
    attempts: Sequence[Attempt],
    settings: AgreementSettings,
    answer_type: AnswerType = AnswerType.SHORT_TEXT,
    chosen: str | None = None,
) -> Verdict:
    """What the attempts agree on, how firmly, and what it is good for.

    `chosen`: the answer that the model selected or composed (universal self-consistency). It wins; its share is
    that of the attempts which say the same, 0 where it is in words of its own (never train-grade then). Ties go
    to the answer that came first. Votes are over all attempts, perturbed ones included; "" counts attempts
    without an answer. No attempts give Grade.NONE.
    """
    cast = labels(attempts, answer_type, chosen)
    votes = Counter(label or "" for label in cast)
    spoken = Counter(label for label in cast if label is not None)
    if not spoken:
        return Verdict(None, dict(votes), 0.0, Grade.NONE, f"none of {len(cast)} attempts gave an answer")
    winner = spoken.most_common(1)[0][0] if chosen is None else chosen
    share = votes[winner] / len(cast)
    against = _against_training(attempts, cast, winner, settings, answer_type)
    by_model = "" if chosen is None else f"{_BY_MODEL.get(settings.select, 'chosen')} by the model; "
    leads = chosen is None and votes[winner] == max(votes.values())
    ended = _why_no_more(attempts, cast, settings) if leads else ""
    said = f"{by_model}{votes[winner]} of {len(cast)} attempts agree{ended}"
    if share < settings.serve_share:
        return Verdict(winner, dict(votes), share, Grade.NONE, f"{said}, below serve_share {settings.serve_share:g}")
    if against:
        return Verdict(winner, dict(votes), share, Grade.SERVE, f"{said}; not for training: {against}")
    under = f", also under {', '.join(settings.perturb)}" if settings.perturb else ""
    return Verdict(winner, dict(votes), share, Grade.TRAIN, said + under)


def _why_no_more(attempts: Sequence[Attempt], cast: Sequence[str | None], settings: AgreementSettings) -> str:
    """What an early stop says, with its posterior; "" where all were drawn, or where a budget ended the draw."""
    plain = _under(None, attempts, cast)
    ended = stop(plain, settings)
    return f" ({ended.reason})" if ended.stop and len(plain) < settings.max_samples else ""


def _under(change: str | None, attempts: Sequence[Attempt], cast: Sequence[str | None]) -> list[str | None]:
    """The votes at the question changed so; None: as it was asked."""
    return [label for attempt, label in zip(attempts, cast, strict=True) if attempt.perturbation == change]


def _against_training(
    attempts: Sequence[Attempt],
    cast: Sequence[str | None],
    winner: str,
    settings: AgreementSettings,
    answer_type: AnswerType,
) -> str | None:
    """Why the winner must not be trained on; None if it may."""
    if answer_type is AnswerType.VERDICT and winner == _TIE:
        return "a tie has no winner to learn: mostly it means that the orders of the responses disagreed"
    votes, n = Counter(label or "" for label in cast), len(cast)
    plain = _under(None, attempts, cast)
    if len(plain) < settings.train_attempts:
        return f"{len(plain)} attempts at the question as asked, {settings.train_attempts} needed"
    if 2 * votes[winner] <= n:
        return "no strict majority"
    if votes[winner] < settings.train_share * n:
        return f"share {votes[winner] / n:.2f} is below train_share {settings.train_share:g}"
    for kind in settings.perturb:
        changed = _under(kind, attempts, cast)
        if not changed:
            return f"no attempt under {kind}"
        if 2 * sum(label == winner for label in changed) <= len(changed):
            return f"the answer changes under {kind}"
    return None


def labels(attempts: Sequence[Attempt], answer_type: AnswerType, chosen: str | None = None) -> list[str | None]:
    """Each attempt's vote: its answer, or for free texts the first answer that says the same."""
    if answer_type is not AnswerType.FREE_TEXT:
        return [attempt.answer for attempt in attempts]
    heads = [] if chosen is None else [chosen]
    cast: list[str | None] = []
    for attempt in attempts:
        head = next((h for h in heads if answers.same(h, attempt.answer, answer_type)), attempt.answer)
        if head is not None and head not in heads:
            heads.append(head)
        cast.append(head)
    return cast


def _leaders(votes: Sequence[str | None]) -> tuple[int, int]:
    """Votes of the leader and of the runner-up; attempts without an answer count as one rival."""
    counts = [n for _, n in Counter(v or "" for v in votes).most_common(2)]
    first, second = ([*counts, 0, 0])[:2]
    return first, second
