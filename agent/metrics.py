"""Prometheus metrics: one frozen episode goes in, counters and histograms come out."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from memory.records import Episode

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The service's own registry, so that two daemons in one process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry, "namespace": "secondnature"}
        by_route = ["system", "skill", "mode"]
        self.requests = Counter("requests", "Answered requests.", by_route, **own)
        self.tokens = Counter("generated_tokens", "Tokens generated for answers.", ["system", "skill"], **own)
        self.latency = Histogram("request_seconds", "Seconds until the reply.", ["system"], buckets=SECONDS, **own)
        self.confidence = Histogram(
            "confidence", "Calibrated confidence of drafts.", ["skill"], buckets=[i / 10 for i in range(11)], **own
        )
        self.errors = Counter("errors", "Requests answered with an error.", ["code"], **own)
        self.audits = Gauge("audits_waiting", "Audits drawn and not yet done.", **own)
        self.in_flight = Gauge("requests_in_flight", "Requests under way.", ["room"], **own)
        self.adapter = Gauge("adapter_live", "1 for the adapter in force.", ["adapter", "digest"], **own)
        self.engine_up = Gauge("engine_up", "1 while the engine answers.", **own)
        self.nights = Counter("nights", "Finished nights.", ["outcome"], **own)
        self.swap_seconds = Gauge("swap_seconds", "Seconds of the last swap, load to pointer flip.", **own)

    def answered(self, episode: Episode) -> None:
        """Count one answered request."""
        system, skill = episode.decision.system.value, episode.ask.skill
        self.requests.labels(system, skill, episode.ask.mode.value).inc()
        self.tokens.labels(system, skill).inc(episode.tokens)
        self.latency.labels(system).observe(episode.seconds)
        if episode.draft and episode.draft.confidence is not None:
            self.confidence.labels(skill).observe(episode.draft.confidence)

    def live(self, adapter: str | None, digest: str | None) -> None:
        """Say which adapter is in force."""
        self.adapter.clear()
        self.adapter.labels(adapter or "base", digest or "").set(1)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
