"""Who answers, and why."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.records import Mode, System
from policies.route import RouteSettings, route

SETTINGS = RouteSettings()


def decide(mode=Mode.AUTO, confidence=0.95, threshold=0.9, settings=SETTINGS, audit=0.02, chance=0.5, **more):
    return route(mode, confidence, threshold, settings, audit_probability=audit, chance=chance, **more)


@pytest.mark.parametrize(
    ("given_", "system", "words"),
    [
        ({}, System.SYSTEM1, "reaches the threshold 0.900"),
        ({"confidence": 0.9}, System.SYSTEM1, "reaches"),
        ({"confidence": 0.89}, System.SYSTEM2, "below the threshold"),
        ({"confidence": None}, System.SYSTEM2, "confidence is unknown"),
        ({"threshold": None}, System.SYSTEM2, "No threshold is set"),
        ({"mode": Mode.SYSTEM1, "confidence": 0.1}, System.SYSTEM1, "caller asked for System 1"),
        ({"mode": Mode.SYSTEM2}, System.SYSTEM2, "caller asked for System 2"),
        ({"red_listed": True}, System.SYSTEM2, "red-listed"),
        ({"deliberate": True}, System.SYSTEM2, "deliberate"),
        ({"system2_can": False, "why_not": "it names tools", "confidence": 0.1}, System.SYSTEM1, "it names tools"),
        ({"system2_can": False, "mode": Mode.SYSTEM2}, System.SYSTEM1, "cannot serve"),
        ({"red_listed": True, "mode": Mode.SYSTEM1}, System.SYSTEM1, "caller asked"),
    ],
)
def test_each_rule_gives_its_reason(given_, system, words):
    decision = decide(**given_)
    assert decision.system is system
    assert words in decision.reason
    assert decision.reason.endswith(".")


def test_the_propensity_is_the_chance_that_system_2_was_run():
    assert decide(confidence=0.5).propensity == 1.0
    assert decide(audit=0.15).propensity == 0.15
    assert decide(system2_can=False, chance=0.0).propensity == 0.0
    assert not decide(system2_can=False, chance=0.0).audit


def test_an_audit_is_drawn_by_the_given_chance():
    assert decide(audit=0.15, chance=0.149).audit
    assert not decide(audit=0.15, chance=0.15).audit
    assert not decide(confidence=0.1, audit=0.15, chance=0.0).audit, "System 2 answers: there is nothing to audit"


def test_the_threshold_is_logged_only_where_it_decided():
    assert decide().threshold == 0.9
    assert decide(mode=Mode.SYSTEM1).threshold is None
    assert decide(confidence=None).threshold is None


def test_settings_fill_what_is_missing():
    assert decide(threshold=None, settings=RouteSettings(threshold=0.9)).system is System.SYSTEM1
    assert decide(threshold=0.99, settings=RouteSettings(threshold=0.9)).system is System.SYSTEM2
    assert decide(confidence=None, settings=RouteSettings(unknown="system1")).system is System.SYSTEM1


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.999))
@settings(deadline=None)
def test_a_surer_answer_is_never_routed_to_system_2_where_a_less_sure_one_is_accepted(a, b, threshold, chance):
    low, high = sorted((a, b))
    if decide(confidence=low, threshold=threshold, chance=chance).system is System.SYSTEM1:
        assert decide(confidence=high, threshold=threshold, chance=chance).system is System.SYSTEM1
