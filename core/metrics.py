"""What a process counts and measures, in Prometheus' terms; docs/metrics.md says what each figure means.

Labels name what we have few of (routes, consumers, channels), never a tenant, a person or an id: each combination is
kept in memory and read by every scrape.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

_SHORT: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds that answers take."""
_LONG: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0)
"""Seconds that something waits."""
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_UNKNOWN: Final = "other"
"""What is said of a method or a path that is none of ours: callers choose them, so there is no end of them."""

EVENTS_HANDLED: Final = Counter(
    "throughline_bus_events_handled", "Events that consumers were handed and that are settled.", ["consumer"]
)
EVENTS_PARKED: Final = Counter(
    "throughline_bus_events_parked", "Events that a consumer could not handle: dead events.", ["consumer"]
)
BUS_FAILURES: Final = Counter(
    "throughline_bus_failures", "Pages of the bus that failed as a whole and were tried again.", ["consumer"]
)
PAGE_SECONDS: Final = Histogram(
    "throughline_bus_page_seconds", "How long a consumer was busy with a page of events.", ["consumer"], buckets=_SHORT
)
HANDLED_AFTER: Final = Histogram(
    "throughline_bus_handled_after_seconds",
    "How old the oldest event of a page was when the page was settled.",
    ["consumer"],
    buckets=_LONG,
)
MESSAGES: Final = Counter(
    "throughline_messages",
    "What became of messages; `queued` are those put off, which come again.",
    ["channel", "result"],
)
WEBHOOK_DELIVERIES: Final = Counter(
    "throughline_webhook_deliveries", "Attempts to tell an endpoint of an event, by what came of them.", ["result"]
)
MEMBERS_PARKED: Final = Counter(
    "throughline_members_parked", "Members of journeys whose step failed for good: they wait for somebody.", ["domain"]
)
MAILS_TAKEN: Final = Counter("throughline_inbound_mails", "Mails that came in, by what was said to them.", ["answer"])
LOOP_LAG: Final = Gauge(
    "throughline_event_loop_lag_seconds", "How late the process comes to what is due: near one second it is overloaded."
)
CLOCK_SKEW: Final = Gauge("throughline_clock_skew_seconds", "How far this machine's clock is ahead of Postgres'.")
INFO: Final = Gauge(
    "throughline_process", "1; its labels say what runs here.", ["kind", "domain", "version", "worker_version"]
)


class Tally(Collector):
    """A histogram that takes a figure many times at once: counting each of thousands would cost too much."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        """Begin empty, with buckets up to these bounds."""
        self._name = name
        self._documentation = documentation
        self._bounds = (*bounds, float("inf"))
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count `value` so many times."""
        self._counts[next(at for at, bound in enumerate(self._bounds) if value <= bound)] += times
        self._sum += value * times

    def collect(self) -> Iterable[Metric]:
        """Yield it as Prometheus has histograms: each bucket holds those below it."""
        below, buckets = 0, list[tuple[str, float]]()
        for bound, count in zip(self._bounds, list(self._counts), strict=True):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(below)))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


class Requests:
    """Counts what an API answers: a few dictionary look-ups a request."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Begin empty."""
        self._answers = Counter(
            "throughline_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "throughline_http_request_seconds",
            "How long requests took, from their head to the end of the answer.",
            ["method", "route"],
            buckets=_SHORT,
            registry=registry,
        )
        self._counts: dict[tuple[str, str | None, int], tuple[Callable[[], None], Callable[[float], None]]] = {}

    def answered(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count one. `route` is the template of its path, None where it leads nowhere."""
        counts = self._counts.get((method, route, status))
        if counts is None:
            known = method if method in _METHODS else _UNKNOWN
            path = route or _UNKNOWN
            counts = self._answers.labels(known, path, str(status)).inc, self._seconds.labels(known, path).observe
            if known == method:  # else callers could fill the memory with what they invent
                self._counts[method, route, status] = counts
        count, observe = counts
        count()
        observe(seconds)


REQUESTS: Final = Requests()
SEGMENT_CHANGES: Final = Tally(
    "throughline_segment_change_seconds",
    "From what changed somebody's membership of a segment to the change, in seconds.",
    _LONG,
)
REGISTRY.register(SEGMENT_CHANGES)
