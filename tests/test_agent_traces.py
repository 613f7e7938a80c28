"""Traces of the whole path, in memory; and that nothing of OpenTelemetry is loaded while they are off."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent.answer import answer
from agent.day import Day
from agent.engine.client import Priority
from agent.steps import thinking
from agent.stream import streamed
from agent.traces import NoTraces, OtelTraces, TraceSettings, open_traces
from day_fakes import ScriptedEngine, asked, day
from memory.errors import Unavailable
from memory.records import Mode


def script(model: str, text: str) -> str:
    return "7" if "Number only" in text else "The answer is 8."


def traced(tmp_path: Path, engine: Any = None) -> tuple[Day, InMemorySpanExporter, OtelTraces]:
    exporter = InMemorySpanExporter()
    traces = OtelTraces(exporter)
    one = day(tmp_path, traces.engine(engine or ScriptedEngine(script)))
    return replace(one, traces=traces), exporter, traces


def spans(exporter: InMemorySpanExporter, traces: OtelTraces) -> dict[str, Any]:
    traces.close()  # sends what waits
    return {span.name: span for span in exporter.get_finished_spans()}


async def test_an_answer_is_one_trace_with_draft_every_call_and_remembering(tmp_path: Path) -> None:
    one, exporter, traces = traced(tmp_path)
    episode = await answer(one, *asked(one, "What is 3 + 5?"))
    found = spans(exporter, traces)
    root = found["invoke_agent secondnature"]
    assert {span.context.trace_id for span in exporter.get_finished_spans()} == {root.context.trace_id}
    assert (root.parent, root.attributes["gen_ai.operation.name"]) == (None, "invoke_agent")
    assert root.attributes["gen_ai.response.id"] == episode.ask.id
    assert (root.attributes["secondnature.system"], root.attributes["secondnature.skill"]) == ("system2", "sums")
    assert found["deliberate"].parent.span_id == root.context.span_id
    assert (found["deliberate"].attributes["secondnature.method"], found["remember"].parent.span_id) == (
        "cot",
        root.context.span_id,
    )
    calls = [span for span in exporter.get_finished_spans() if span.name == "chat base"]
    parents = {span.parent.span_id for span in calls}
    assert parents == {found["draft"].context.span_id, found["deliberate"].context.span_id}
    assert {span.attributes["gen_ai.request.model"] for span in calls} == {"base"}
    assert all(span.attributes["gen_ai.usage.output_tokens"] > 0 for span in calls)
    assert not any("What is" in str(value) for span in calls for value in span.attributes.values())
    one.memory.close()


async def test_a_stream_is_a_trace_too(tmp_path: Path) -> None:
    one, exporter, traces = traced(tmp_path, ScriptedEngine(lambda model, text: "one two"))
    pieces = [piece async for piece in streamed(one, *asked(one, "Tell me something.", Mode.SYSTEM1))]
    found = spans(exporter, traces)
    root = found["invoke_agent secondnature"]
    assert pieces[:2] == ["one ", "two"]
    assert found["chat base"].parent.span_id == found["remember"].parent.span_id == root.context.span_id
    assert found["chat base"].attributes["gen_ai.usage.output_tokens"] == 2
    assert root.attributes["secondnature.system"] == "system1"
    one.memory.close()


async def test_a_fault_is_noted_where_it_happened(tmp_path: Path) -> None:
    class Broken(ScriptedEngine):
        async def chat(self, *given: Any, **more: Any) -> Any:
            raise Unavailable("the engine is down")

    one, exporter, traces = traced(tmp_path, Broken(script))
    with pytest.raises(Unavailable):
        await answer(one, *asked(one, "What is 3 + 5?", Mode.SYSTEM1))
    found = spans(exporter, traces)
    for name in ("invoke_agent secondnature", "draft", "chat base"):
        assert found[name].attributes["error.type"] == "Unavailable"
        assert found[name].status.status_code.name == "ERROR"
    one.memory.close()


async def test_an_audit_is_a_trace_of_its_own_that_names_the_episode(tmp_path: Path) -> None:
    one, exporter, traces = traced(tmp_path)
    ask, skill = asked(one, "What is 3 + 5?")
    await thinking(one, ask, skill, Priority.AUDIT)
    span = spans(exporter, traces)["deliberate"]
    assert (span.parent, span.attributes["gen_ai.response.id"]) == (None, ask.id)
    one.memory.close()


def test_off_means_that_nothing_is_imported() -> None:
    assert isinstance(open_traces(TraceSettings()), NoTraces)
    code = "import sys, agent.daemon; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0
