"""How often an accepted answer is checked."""

import pytest

from policies.audit import AuditSettings, audit_probability

SETTINGS = AuditSettings()


@pytest.mark.parametrize(
    ("confidence", "threshold", "accepted", "expected"),
    [
        (0.99, 0.8, 10_000, 0.02),
        (0.89, 0.8, 10_000, 0.15),
        (0.80, 0.8, 10_000, 0.15),
        (0.75, 0.8, 10_000, 0.15),
        (0.99, 0.8, 0, 0.20),
        (0.99, 0.8, 199, 0.20),
        (0.99, 0.8, 200, 0.02),
        (0.85, 0.8, 10, 0.20),
        (None, 0.8, 10_000, 0.02),
        (0.8, None, 10_000, 0.02),
    ],
)
def test_the_largest_share_that_applies(confidence, threshold, accepted, expected):
    assert audit_probability(confidence, threshold, accepted, SETTINGS) == expected


def test_shares_are_settings():
    settings = AuditSettings(floor=0.0, band=0.0, new_adapter=0.0)
    assert audit_probability(0.8, 0.8, 0, settings) == 0.0
