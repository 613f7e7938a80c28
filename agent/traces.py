"""OpenTelemetry traces of the whole path: the answer, its draft, its deliberation with each call, remembering it.

Names follow the semantic conventions for generative AI (gen_ai.*); what they do not know is named secondnature.*:
`secondnature.stage` is the step of System 2's method that a call is ("propose", "value", "rewrite", "answer", ...).
Nothing of OpenTelemetry is imported unless traces are on. Prompts and answers are not in the spans.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from typing import Any, Protocol, cast

from pydantic import Field

from agent.engine.client import Delta, Engine, Sampling
from agent.stage import stage
from memory.errors import BadConfig
from memory.records import Ask, Completion, Deliberation, Draft, Episode, Message
from memory.settings import Settings

PROVIDER = "vllm"
Attributes = Mapping[str, Any]


class TraceSettings(Settings):
    """Where spans of every answer are sent."""

    enabled: bool = Field(False, description="send OpenTelemetry traces (needs `pip install secondnature[telemetry]`)")
    endpoint: str = Field("http://127.0.0.1:4318/v1/traces", description="the collector's OTLP address over HTTP")
    share: float = Field(1.0, gt=0, le=1, description="0..1, share of the answers that are traced")


class Span(Protocol):
    """One step of the path."""

    def set(self, attributes: Attributes) -> None:
        """Add what became known; None values are left out."""

    def around(self) -> AbstractContextManager[None]:
        """What is begun inside the block is a part of this step; for steps that are not `current`."""


class Traces(Protocol):
    """Whoever is told of the path."""

    def span(self, name: str, attributes: Attributes, *, current: bool = True) -> AbstractContextManager[Span]:
        """One step; faults that leave the block are noted. `current` False: it crosses a generator's yields."""

    def engine(self, engine: Engine) -> Engine:
        """The engine, each of whose calls is a step."""

    def close(self) -> None:
        """Send what waits."""


class _Silent:
    def set(self, attributes: Attributes) -> None:
        return None

    def around(self) -> AbstractContextManager[None]:
        return nullcontext()


class NoTraces:
    """Traces nothing, for next to nothing."""

    def span(self, name: str, attributes: Attributes, *, current: bool = True) -> AbstractContextManager[Span]:
        return _NOTHING

    def engine(self, engine: Engine) -> Engine:
        return engine

    def close(self) -> None:
        return None


_NOTHING: AbstractContextManager[Span] = nullcontext(_Silent())
OFF: Traces = NoTraces()


def open_traces(settings: TraceSettings) -> Traces:
    """The traces that the settings ask for. Raises BadConfig where OpenTelemetry is not installed."""
    if not settings.enabled:
        return OFF
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise BadConfig("traces are on; install them with `pip install 'secondnature[telemetry]'`") from None
    return OtelTraces(OTLPSpanExporter(endpoint=settings.endpoint), settings.share)


class OtelTraces:
    """Spans, sent in batches by a thread of the SDK's own."""

    def __init__(self, exporter: Any, share: float = 1.0) -> None:
        """`exporter`: an OpenTelemetry SpanExporter."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

        resource = Resource.create({"service.name": "secondnature"})
        self._provider = TracerProvider(sampler=ParentBasedTraceIdRatio(share), resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("secondnature")

    def span(self, name: str, attributes: Attributes, *, current: bool = True) -> AbstractContextManager[Span]:
        """See Traces."""
        return self._span(name, attributes, current, client=False)

    def call(self, name: str, attributes: Attributes) -> AbstractContextManager[Span]:
        """A span of a call that leaves the process; never current, for a stream outlives its reader's context."""
        return self._span(name, attributes, current=False, client=True)

    @contextmanager
    def _span(self, name: str, attributes: Attributes, current: bool, client: bool) -> Iterator[Span]:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        made = self._tracer.start_span(
            name, kind=SpanKind.CLIENT if client else SpanKind.INTERNAL, attributes=_known(attributes)
        )
        told = _Told(made)
        try:
            with told.around() if current else nullcontext():
                yield told
        except Exception as error:
            made.set_attribute("error.type", type(error).__name__)
            made.set_status(Status(StatusCode.ERROR, str(error)))
            raise
        finally:
            made.end()

    def engine(self, engine: Engine) -> Engine:
        """See Traces."""
        return cast(Engine, TracedEngine(engine, self))

    def close(self) -> None:
        """See Traces."""
        self._provider.shutdown()


class _Told:
    def __init__(self, span: Any) -> None:
        self._span = span

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(_known(attributes))

    @contextmanager
    def around(self) -> Iterator[None]:
        from opentelemetry.trace import use_span

        with use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield


class TracedEngine:
    """An engine whose generations are spans; all else goes straight through."""

    def __init__(self, engine: Engine, traces: OtelTraces) -> None:
        self._engine, self._traces = engine, traces

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        """See Engine."""
        with self._traces.call(f"chat {model}", _asked(model, sampling, priority)) as span:
            done = await self._engine.chat(model, messages, sampling, priority=priority)
            span.set(_said(done))
            return done

    def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> AsyncGenerator[Delta, None]:
        """See Engine. The span begins here, not at the first piece, to be a part of what is current here."""
        span = self._traces.call(f"chat {model}", _asked(model, sampling, priority))
        return self._streamed(span, span.__enter__(), self._engine.stream(model, messages, sampling, priority=priority))

    async def _streamed(
        self, ends: AbstractContextManager[Span], span: Span, source: AsyncGenerator[Delta, None]
    ) -> AsyncGenerator[Delta, None]:
        fault: BaseException | None = None
        try:
            async with aclosing(source) as flow:
                async for delta in flow:
                    if delta.completion_tokens is not None:
                        span.set(_used(delta.prompt_tokens, delta.completion_tokens))
                    yield delta
        except Exception as error:
            fault = error
            raise
        finally:
            ends.__exit__(type(fault) if fault else None, fault, None)


def asked(ask: Ask, kind: str) -> Attributes:
    """Of the span of a whole answer, at its beginning."""
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.agent.name": "secondnature",
        "gen_ai.response.id": ask.id,
        "secondnature.skill": ask.skill,
        "secondnature.mode": ask.mode.value,
        "secondnature.kind": kind,
    }


def answered(episode: Episode) -> Attributes:
    """Of the span of a whole answer, at its end."""
    decision = episode.decision
    return {
        "gen_ai.usage.output_tokens": episode.tokens,
        "secondnature.system": decision.system.value,
        "secondnature.reason": decision.reason,
        "secondnature.confidence": decision.confidence,
        "secondnature.threshold": decision.threshold,
        "secondnature.propensity": decision.propensity,
        "secondnature.audit": decision.audit,
        "secondnature.adapter": episode.adapter,
    }


def drafted(draft: Draft) -> Attributes:
    """Of a draft."""
    return {"secondnature.confidence": draft.confidence, "secondnature.format_ok": draft.signals.format_ok}


def thought(done: Deliberation) -> Attributes:
    """Of a deliberation."""
    return {
        "gen_ai.usage.output_tokens": done.tokens,
        "secondnature.method": done.method,
        "secondnature.attempts": len(done.attempts),
        "secondnature.agreement": done.verdict.share,
        "secondnature.grade": done.verdict.grade.value,
    }


def _asked(model: str, sampling: Sampling, priority: int) -> Attributes:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.choice.count": sampling.n if sampling.n != 1 else None,
        "gen_ai.request.stop_sequences": list(sampling.stop) or None,
        "secondnature.priority": int(priority),
        "secondnature.stage": stage(),
    }


def _said(done: Sequence[Completion]) -> Attributes:
    reasons = [one.finish_reason or "unknown" for one in done]
    used = _used(done[0].prompt_tokens, sum(one.completion_tokens for one in done)) if done else {}
    return {"gen_ai.response.finish_reasons": reasons, "gen_ai.response.model": done[0].model if done else None, **used}


def _used(prompt: int | None, completion: int | None) -> Attributes:
    return {"gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": completion}


def _known(attributes: Attributes) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
