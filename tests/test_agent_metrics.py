"""What Prometheus reads, and that the dashboard asks for nothing that is not there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from agent.metrics import Metrics
from memory_fakes import accepted, episode

DASHBOARD = Path(__file__).parent.parent / "docs" / "grafana.json"
NAME = re.compile(r"\b((?:secondnature|gen_ai_client)_[a-z0-9_]+)(?=[{\[ ),]|$)")


def rendered(metrics: Metrics) -> dict[str, float]:
    """Every sample, as `name{labels}` in order of the labels."""
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def names(metrics: Metrics) -> set[str]:
    """The names that a query may use; a counter that never counted has none yet, so its kind tells them."""
    found = set()
    for family in metrics.registry.collect():
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        found |= {family.name + ending for ending in endings}
    return found


def queries(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value[key] for key in ("expr", "definition") if key in value]
        return own + [query for inner in value.values() for query in queries(inner)]
    return [query for inner in value for query in queries(inner)] if isinstance(value, list) else []


def test_every_metric_of_the_dashboard_exists() -> None:
    asked = queries(json.loads(DASHBOARD.read_text()))
    used = {name for query in asked for name in NAME.findall(query)}
    assert len(asked) > 15
    assert used <= names(Metrics()), used - names(Metrics())


def test_the_dashboards_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert max(x for x, _ in taken) == 23


def test_an_answer_counts_each_call_under_the_fields_names() -> None:
    metrics = Metrics()
    metrics.answered(episode(1))  # a draft, a call of four samples and a merge
    metrics.answered(accepted(2))
    found = rendered(metrics)
    call = {"gen_ai_operation_name": "chat", "gen_ai_request_model": "base"}
    output = json.dumps(call | {"gen_ai_token_type": "output"}, sort_keys=True)
    assert found["gen_ai_client_operation_duration_seconds_count" + json.dumps(call, sort_keys=True)] == 4
    assert found["gen_ai_client_token_usage_sum" + output] == 12 * (1 + 4 + 1 + 1)
    assert found['secondnature_requests_total{"mode": "auto", "skill": "sums", "system": "system1"}'] == 1


def test_trust_says_what_is_in_force_and_forgets_what_is_not() -> None:
    metrics = Metrics()
    metrics.trust({None: 0.9, "sums": None, "dates": 0.5}, {"sums": 21.0})
    found = rendered(metrics)
    assert found['secondnature_threshold{"skill": "*"}'] == 0.9
    assert found['secondnature_threshold{"skill": "sums"}'] == float("inf")
    assert found['secondnature_alarm_evidence{"skill": "sums"}'] == 21.0
    metrics.trust({None: 0.8}, {})
    assert not [name for name in rendered(metrics) if name.startswith("secondnature_threshold") and "sums" in name]


def test_an_audits_calls_count_too() -> None:
    metrics = Metrics()
    done = episode(1).deliberation
    assert done is not None
    metrics.thought(done)
    call = json.dumps({"gen_ai_operation_name": "chat", "gen_ai_request_model": "base"}, sort_keys=True)
    assert rendered(metrics)["gen_ai_client_operation_duration_seconds_count" + call] == len(done.calls) == 2
