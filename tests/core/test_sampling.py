"""What is refused ahead of the SDK's sampler, which must come to the same."""

import os
import random
from itertools import cycle

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core.sampling import early

IDS = f"{7:032x}-{7:016x}"
PARENTS = [
    f"00-{IDS}-01",
    f"00-{IDS}-00",
    f"00-{IDS}-03",
    f"00-{IDS}-02",
    f"00-{0:032x}-{7:016x}-00",
    f"00-{7:032x}-{0:016x}-00",
    f"01-{IDS}-00",
    f"00-{IDS}-00-more",
    "nonsense",
]
QUARTER = 1 << 62


def draw_only(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Have these drawn, again and again."""
    coming = cycle(numbers)

    def draw(_bits: int) -> int:
        return next(coming)

    monkeypatch.setattr(random, "getrandbits", draw)


@pytest.mark.parametrize(
    ("name", "share"),
    [
        (None, None),
        ("", "0"),
        ("nobody's", "0"),
        ("always_on", "0"),
        ("always_off", "1"),
        ("parentbased_always_on", "0"),
        ("parentbased_always_off", "1"),
        ("traceidratio", "0.25"),
        ("ParentBased_TraceIdRatio", "0.25"),
        ("parentbased_traceidratio", "0"),
        ("parentbased_traceidratio", "1"),
        ("parentbased_traceidratio", "1.5"),
        ("traceidratio", "much"),
        ("traceidratio", None),
    ],
)
def test_it_refuses_what_the_sampler_would(
    name: str | None, share: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in (("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", share)):
        if value is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, value)
    sampler = TracerProvider(shutdown_on_exit=False).sampler
    sampling = early(os.environ)
    for number in (1, QUARTER - 1, QUARTER, (1 << 64) - 1):
        draw_only(monkeypatch, number)
        trace_id = number << 64 | number
        assert sampling.refuses({}) is not sampler.should_sample(None, trace_id, "new").decision.is_sampled()
    for parent in PARENTS:
        context = TraceContextTextMapPropagator().extract({"traceparent": parent})
        if sampling.refuses({"traceparent": parent}):
            for trace_id in (1, QUARTER):
                assert not sampler.should_sample(context, trace_id, "more").decision.is_sampled()
    asks_parent = name not in {"always_on", "always_off", "traceidratio"}
    assert [sampling.refuses({"traceparent": parent}) for parent in PARENTS] == [
        asks_parent and parent in {PARENTS[1], PARENTS[3]} for parent in PARENTS
    ]


def test_what_it_lets_through_has_the_id_that_it_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = early({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"})
    draw_only(monkeypatch, QUARTER, QUARTER - 1, 5, 6)
    assert sampling.refuses({})
    assert not sampling.refuses({})
    assert [sampling.generate_trace_id() for _ in range(2)] == [5 << 64 | QUARTER - 1, 6]
