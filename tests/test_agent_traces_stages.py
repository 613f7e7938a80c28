"""Each call's span names the step of System 2's method that it is."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent.engine.client import Sampling
from agent.stage import stage
from agent.system2.deliberate import deliberate
from agent.system2.problem import Problem, user
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from agent.traces import OtelTraces
from day_fakes import ScriptedEngine
from policies.skills import SkillSettings

REPLY = "Unbiased text context: none\nQuestion: What is 3 + 5?\nIt is sure. The answer is 8."
STAGES = {
    "direct": {"answer"},
    "cot": {"reason"},
    "rar": {"rephrase", "answer"},
    "s2a": {"rewrite", "answer"},
    "tot": {"propose", "value"},
    "got": {"generate", "aggregate", "improve"},
}


@pytest.mark.parametrize("method", STAGES)
async def test_every_call_of_a_method_names_its_stage(method: str) -> None:
    exporter = InMemorySpanExporter()
    traces = OtelTraces(exporter)
    engine: Any = traces.engine(ScriptedEngine(lambda model, text: REPLY))  # type: ignore[arg-type]
    rule = SkillSettings(name="case", method=method, answer_type="number")
    done = await deliberate(Problem(user("What is 3 + 5?"), rule), Think(engine, "base"), System2Settings())
    traces.close()
    spans = exporter.get_finished_spans()
    told = [(span.attributes or {}).get("secondnature.stage") for span in spans]
    assert sorted(map(str, told)) == sorted(call.stage for call in done.calls)
    assert STAGES[method] <= set(told)
    assert {span.name for span in spans} == {"chat base"}
    assert {(span.attributes or {})["gen_ai.operation.name"] for span in spans} == {"chat"}


async def test_a_call_outside_of_a_thought_has_no_stage() -> None:
    exporter = InMemorySpanExporter()
    traces = OtelTraces(exporter)
    engine: Any = traces.engine(ScriptedEngine(lambda model, text: "8"))  # type: ignore[arg-type]
    await engine.chat("base", user("What is 3 + 5?"), Sampling())
    traces.close()
    (span,) = exporter.get_finished_spans()
    assert "secondnature.stage" not in (span.attributes or {})
    assert stage() is None
