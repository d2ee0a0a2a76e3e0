"""What a server counts, for Prometheus. No label and no number tells what somebody wrote."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from spellbound.story.completion import Completer
from spellbound.story.generator import Usage

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SPEEDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """The numbers of one application."""

    def __init__(self, completers: Mapping[str, Completer]) -> None:
        """Begin at nothing; what the models are doing is asked when somebody looks."""
        registry = self._registry = CollectorRegistry()
        registry.register(_Loads(completers))
        model = ["model"]
        self._requests = Counter(
            "spellbound_requests", "Answers by path and status", ["path", "status"], registry=registry
        )
        self._first = Histogram(
            "spellbound_time_to_first_token_seconds",
            "From a request's arrival to its first text",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue = Histogram(
            "spellbound_queue_seconds", "Until a turn came", model, buckets=_SECONDS, registry=registry
        )
        self._speed = Histogram(
            "spellbound_tokens_per_second",
            "Of one text, reading not counted",
            model,
            buckets=_SPEEDS,
            registry=registry,
        )
        self._prompt = Counter("spellbound_prompt_tokens", "Tokens of prompts", model, registry=registry)
        self._cached = Counter(
            "spellbound_cached_prompt_tokens", "Of them known from before", model, registry=registry
        )
        self._written = Counter("spellbound_written_tokens", "Tokens written", model, registry=registry)
        self._lookups = Counter(
            "spellbound_cache_lookups",
            "Prompts by what was known of them",
            ["model", "found"],
            registry=registry,
        )

    def answered(self, path: str, status: int) -> None:
        """Count an answer."""
        self._requests.labels(path, str(status)).inc()

    def first_text(self, model: str, seconds: float) -> None:
        """Note when a text began."""
        self._first.labels(model).observe(seconds)

    def ended(self, model: str, usage: Usage) -> None:
        """Count what a text cost, however it ended. On any thread."""
        if usage.queue_seconds == 0.0 and not usage.written_tokens:
            return  # given up before its turn came: nothing was looked up, nothing read
        if usage.queue_seconds is not None:
            self._queue.labels(model).observe(usage.queue_seconds)
        if usage.tokens_per_second:
            self._speed.labels(model).observe(usage.tokens_per_second)
        self._prompt.labels(model).inc(usage.prompt_tokens)
        self._written.labels(model).inc(usage.written_tokens)
        if not usage.reuse_known:
            return
        self._cached.labels(model).inc(usage.reused_tokens)
        self._lookups.labels(model, "hit" if usage.reused_tokens else "miss").inc()

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)


class _Loads(Collector):
    """What the models are doing now."""

    def __init__(self, completers: Mapping[str, Completer]) -> None:
        self._completers = completers

    def collect(self) -> Iterator[Metric]:
        streams = GaugeMetricFamily("spellbound_streams", "Texts worked on", labels=["model"])
        queue = GaugeMetricFamily("spellbound_queue", "Requests that wait for their turn", labels=["model"])
        held = GaugeMetricFamily("spellbound_cache_bytes", "Of the story cache", labels=["model", "place"])
        evicted = CounterMetricFamily(
            "spellbound_cache_evicted", "Snapshots that had to leave memory", labels=["model"]
        )
        failed = CounterMetricFamily(
            "spellbound_cache_failures", "What the story cache could not do", labels=["model", "kind"]
        )
        for model, completer in self._completers.items():
            load = completer.load
            streams.add_metric([model], load.running)
            queue.add_metric([model], load.waiting)
            held.add_metric([model, "memory"], load.cache_bytes)
            held.add_metric([model, "disk"], load.disk_bytes)
            evicted.add_metric([model], load.evicted)
            for kind, count in load.cache_failures.items():
                failed.add_metric([model, kind], count)
        yield from (streams, queue, held, evicted, failed)
