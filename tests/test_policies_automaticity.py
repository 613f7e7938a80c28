"""Tests of policies/automaticity.py: statistics, states and the forgetting matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memory.records import (
    AnswerType,
    Ask,
    Audit,
    Deliberation,
    Episode,
    Grade,
    Mode,
    RouteDecision,
    SkillScore,
    SkillState,
    System,
    Verdict,
)
from policies.automaticity import AutomaticitySettings, SkillVersion, answered, by_version, forgetting, standing

SETTINGS = AutomaticitySettings()
GOOD = SkillVersion(
    skill="sums",
    adapter="sn-0001-aaaaaa",
    n=200,
    system1_share=0.9,
    audits=60,
    audits_effective=50.0,
    agreement=0.97,
    agreement_low=0.89,
    agreement_high=0.99,
    accuracy=None,
    feedbacks=0,
    tokens=4.0,
    seconds=0.1,
)


def episode(system: System, skill: str = "sums", propensity: float = 0.1, kind: str = "ask") -> Episode:
    ask = Ask("ep-1", (), skill, AnswerType.NUMBER, "ann", Mode.AUTO, 1.0, "00", False)
    decision = RouteDecision(system, "", 0.9, 0.8, propensity)
    tokens, seconds = (4, 0.1) if system is System.SYSTEM1 else (200, 2.0)
    return Episode(ask, None, decision, None, "5", "sn-0001-aaaaaa", "d", tokens, seconds, kind)


def audit(agrees: bool) -> Audit:
    verdict = Verdict("5", {"5": 4}, 1.0, Grade.TRAIN, "")
    return Audit("ep-1", Deliberation("cot", (), (), verdict, "5", 80, 1.0), agrees, 2.0)


def test_shares_costs_and_feedback_are_counted_per_skill_and_adapter():
    rows = [(episode(System.SYSTEM1), None, 1.0)] * 3 + [(episode(System.SYSTEM2, propensity=1.0), None, 0.0)]
    rows += [(episode(System.SYSTEM1, skill="dates"), None, None), (episode(System.SYSTEM1, kind="replay"), None, None)]
    wanted = episode(System.SYSTEM1)  # by the caller: it says nothing of what the router trusts
    rows += [(replace(wanted, ask=replace(wanted.ask, mode=Mode.SYSTEM1)), None, None)] * 9
    dates, sums = by_version(answered(rows))
    assert (dates.skill, dates.n, dates.accuracy, dates.feedbacks) == ("dates", 1, None, 0)
    assert (sums.n, sums.system1_share, sums.accuracy, sums.feedbacks) == (4, 0.75, 0.75, 4)
    assert (sums.tokens, sums.seconds) == (53.0, 0.1)
    assert (sums.agreement, sums.agreement_low, sums.agreement_high) == (None, 0.0, 1.0)


def test_agreement_weighs_audits_by_how_likely_they_were():
    rows = [(episode(System.SYSTEM1, propensity=0.5), audit(False), None)] * 10
    rows += [(episode(System.SYSTEM1, propensity=0.05), audit(True), None)] * 10
    (sums,) = by_version(answered(rows))
    assert sums.agreement == pytest.approx(200 / 220)
    assert sums.audits == 20
    assert 10 < sums.audits_effective < 13
    assert sums.agreement_low < sums.agreement < sums.agreement_high


def test_the_weighted_agreement_recovers_the_truth():
    draw = np.random.default_rng(7)
    hard = draw.random(20_000) < 0.2
    agrees = draw.random(20_000) < np.where(hard, 0.6, 0.98)
    propensity = np.where(hard, 0.5, 0.05)
    seen = draw.random(20_000) < propensity
    columns = {
        "skill": np.full(20_000, "sums", dtype=object),
        "adapter": np.full(20_000, None, dtype=object),
        "system1": np.ones(20_000, dtype=bool),
        "agrees": np.where(seen, agrees, -1),
        "propensity": propensity,
        "tokens": np.ones(20_000),
        "seconds": np.ones(20_000),
        "score": np.full(20_000, np.nan),
    }
    (sums,) = by_version(columns)
    assert sums.agreement_low < agrees.mean() < sums.agreement_high
    assert agrees[seen].mean() < sums.agreement_low  # the plain mean of the audits is far off


def test_scores_and_lessons_are_joined():
    matrix = {"sn-0001-aaaaaa": {"sums": SkillScore("sums", 100, 0.3, 0.6, 0.7)}}
    (sums,) = by_version(
        answered([(episode(System.SYSTEM1), None, None)]), matrix=matrix, lessons={("sums", "sn-0001-aaaaaa"): 159}
    )
    assert (sums.heldout, sums.score, sums.lessons) == (100, 0.6, 159)
    assert sums.headroom == pytest.approx(0.4)


def test_nothing_answered_is_no_version():
    assert by_version(answered([])) == []


@pytest.mark.parametrize(
    ("change", "before", "state", "said"),
    [
        ({}, None, SkillState.AUTOMATIC, "97 % (89 % to 99 %)"),
        ({}, SkillState.LAPSED, SkillState.AUTOMATIC, "System 1 answers 90 %"),
        ({"n": 49}, None, SkillState.PRACTISING, "49 answers"),
        ({"n": 49}, SkillState.AUTOMATIC, SkillState.AUTOMATIC, "49 answers"),
        ({"system1_share": 0.79}, None, SkillState.PRACTISING, "automatic from 80 %"),
        ({"audits_effective": 19.0}, None, SkillState.PRACTISING, "19 effective audits of the 20"),
        ({"agreement": None}, None, SkillState.PRACTISING, "effective audits"),
        ({"agreement": 0.85}, None, SkillState.PRACTISING, "90 % are needed"),
        ({"system1_share": 0.5}, SkillState.AUTOMATIC, SkillState.LAPSED, "below 60 %"),
        ({"system1_share": 0.7}, SkillState.AUTOMATIC, SkillState.AUTOMATIC, "automatic from 80 %"),
        (
            {"agreement": 0.7, "agreement_high": 0.82},
            SkillState.AUTOMATIC,
            SkillState.LAPSED,
            "surely below 90 %",
        ),
        ({"agreement": 0.85, "agreement_high": 0.93}, SkillState.AUTOMATIC, SkillState.AUTOMATIC, "needed"),
        ({}, SkillState.DELIBERATE, SkillState.DELIBERATE, "did not distil"),
    ],
)
def test_states_have_reasons(change, before, state, said):
    found = standing(replace(GOOD, **change), SETTINGS, before)
    assert found.state is state
    assert said in found.reason


def test_the_measures_of_forgetting():
    def row(**after: float) -> dict[str, SkillScore]:
        return {
            name: SkillScore(name, 100, before, value, None)
            for (name, value), before in zip(after.items(), (0.1, 0.2, 0.3), strict=False)
        }

    matrix = {"a1": row(x=0.6, y=0.3), "a2": row(x=0.5, y=0.7), "a3": row(x=0.4, y=0.8, z=0.5)}
    found = forgetting(matrix, learnt={"x": "a1", "y": "a2", "z": "a3"})
    assert found.adapters == ("a1", "a2", "a3")
    assert found.skills == ("x", "y", "z")
    assert found.scores[0] == (0.6, 0.3, None)
    assert found.base == (0.1, 0.2, 0.3)
    assert found.acc == pytest.approx((0.4 + 0.8 + 0.5) / 3)
    assert found.backward == pytest.approx(((0.4 - 0.6) + (0.8 - 0.7)) / 2)
    assert found.forward == pytest.approx(0.3 - 0.2)
    assert found.forgetting == pytest.approx((0.2 + 0.0 + 0.0) / 3)


def test_one_adapter_has_forgotten_nothing():
    found = forgetting({"a1": {"x": SkillScore("x", 10, 0.1, 0.6, None)}})
    assert (found.acc, found.backward, found.forward, found.forgetting) == (0.6, None, None, 0.0)


def test_no_adapter_has_no_measures():
    found = forgetting({})
    assert (found.adapters, found.scores, found.acc, found.forgetting) == ((), (), None, None)
