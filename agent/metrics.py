"""Prometheus metrics: one frozen episode goes in, counters and histograms come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from memory.records import Completion, Deliberation, Episode

TENTHS = [i / 10 for i in range(11)]
GEN_AI_SECONDS = tuple(0.01 * 2**i for i in range(14))  # the conventions' own buckets, as the next
GEN_AI_TOKENS = tuple(4**i for i in range(14))
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The service's own registry, so that two daemons in one process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, namespace="secondnature", registry=self.registry)
        gauge = partial(Gauge, namespace="secondnature", registry=self.registry)
        histogram = partial(Histogram, namespace="secondnature", registry=self.registry)
        self.requests = counter("requests", "Answered requests.", ["system", "skill", "mode"])
        self.tokens = counter("generated_tokens", "Tokens generated for answers.", ["system", "skill"])
        self.latency = histogram("request_seconds", "Seconds until the reply.", ["system"], buckets=SECONDS)
        self.confidence = histogram("confidence", "Calibrated confidence of drafts.", ["skill"], buckets=TENTHS)
        self.errors = counter("errors", "Requests answered with an error.", ["code"])
        self.audits = gauge("audits_waiting", "Audits drawn and not yet done.")
        self.in_flight = gauge("requests_in_flight", "Requests under way.", ["room"])
        self.alarms = counter("alarms", "Alarms that took trust in System 1 back.", ["skill"])
        self.threshold = gauge(
            "threshold", "Confidence from which System 1 answers; +Inf: trust was taken away.", ["skill"]
        )
        self.wealth = gauge(
            "alarm_evidence", "Evidence against the promised disagreement; the alarm rings at 1 / drift.false_alarm.",
            ["skill"],
        )  # fmt: skip
        self.audited = counter("audits", "Answers of System 1 that System 2 checked.", ["skill", "agrees"])
        self.call_seconds = Histogram(
            "gen_ai_client_operation_duration_seconds", "Seconds of one call of the engine.",
            ["gen_ai_operation_name", "gen_ai_request_model"], buckets=GEN_AI_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.call_tokens = Histogram(
            "gen_ai_client_token_usage", "Tokens of one call of the engine.",
            ["gen_ai_operation_name", "gen_ai_request_model", "gen_ai_token_type"], buckets=GEN_AI_TOKENS,
            registry=self.registry,
        )  # fmt: skip
        self.adapter = gauge("adapter_live", "1 for the adapter in force.", ["adapter", "digest"])
        self.engine_up = gauge("engine_up", "1 while the engine answers.")
        self.nights = counter("nights", "Finished nights.", ["outcome"])
        self.swap_seconds = gauge("swap_seconds", "Seconds of the last swap, load to pointer flip.")

    def answered(self, episode: Episode) -> None:
        """Count one answered request."""
        system, skill = episode.decision.system.value, episode.ask.skill
        self.requests.labels(system, skill, episode.ask.mode.value).inc()
        self.tokens.labels(system, skill).inc(episode.tokens)
        self.latency.labels(system).observe(episode.seconds)
        if episode.draft and episode.draft.confidence is not None:
            self.confidence.labels(skill).observe(episode.draft.confidence)
        if episode.draft:
            self.called([episode.draft.completion])
        if episode.deliberation:
            self.thought(episode.deliberation)

    def thought(self, deliberation: Deliberation) -> None:
        """Count the calls of one run of System 2: an answer's, or an audit's."""
        for call in deliberation.calls:
            self.called(call.completions)

    def called(self, samples: Sequence[Completion]) -> None:
        """Count one call of the engine by its samples; one that gave none is not counted."""
        if not samples:
            return
        model = samples[0].model
        self.call_seconds.labels("chat", model).observe(max(one.seconds for one in samples))
        self.call_tokens.labels("chat", model, "input").observe(samples[0].prompt_tokens)
        self.call_tokens.labels("chat", model, "output").observe(sum(one.completion_tokens for one in samples))

    def trust(self, thresholds: Mapping[str | None, float | None], wealth: Mapping[str, float]) -> None:
        """Say what is in force by skill (None: "*", every skill without its own), and how near each alarm is."""
        for found, values in ((self.threshold, thresholds), (self.wealth, wealth)):
            found.clear()
            for skill, value in values.items():
                found.labels(skill or "*").set(inf if value is None else value)

    def live(self, adapter: str | None, digest: str | None) -> None:
        """Say which adapter is in force."""
        self.adapter.clear()
        self.adapter.labels(adapter or "base", digest or "").set(1)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
