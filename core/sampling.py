"""Tells of most of what is not sampled, before the SDK makes anything for it.

Its tracer makes a context and a span of what its sampler refuses, too, and asks that by way of several objects, which
takes ten times as long as to look at a number. Where one request of a hundred is traced, it is what the others pay.
"""

import random
import re
import threading
from collections.abc import Mapping
from typing import Final

from opentelemetry.sdk.environment_variables import OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

_UNSAMPLED: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")
_OFF: Final = frozenset({"always_off", "parentbased_always_off"})
_BY_RATIO: Final = frozenset({"traceidratio", "parentbased_traceidratio"})
_WHATEVER_PARENT: Final = frozenset({"always_on", "always_off", "traceidratio"})
"""Samplers that do not ask the parent."""


class EarlySampler(RandomIdGenerator):
    """Draws the ids of traces ahead, as a sampler by ratio goes by nothing else."""

    def __init__(self, share: float, *, asks_parent: bool) -> None:
        """Refuse as the SDK's sampler does that takes this share of traces, 0 to 1, and asks the parent or not.

        Raises:
            ValueError: it is not a share.
        """
        self._bound = TraceIdRatioBased(share).bound
        self._asks_parent = asks_parent
        self._drawn = threading.local()

    def refuses(self, carrier: Mapping[str, str]) -> bool:
        """Whether a trace that goes on with `carrier`, or begins without a `traceparent` in it, is surely not sampled.

        One that begins, and is not refused, has its id from here: this thread's next trace that begins has it.
        """
        parent = carrier.get("traceparent")
        if parent is not None:
            return self._asks_parent and _UNSAMPLED.fullmatch(parent) is not None
        low = random.getrandbits(64)
        if low >= self._bound:
            return True
        self._drawn.id = random.getrandbits(64) << 64 | low
        return False

    def generate_trace_id(self) -> int:
        """See `IdGenerator`."""
        drawn: int = self._drawn.__dict__.pop("id", 0)
        return drawn or super().generate_trace_id()


def early(environment: Mapping[str, str]) -> EarlySampler:
    """Return what refuses as the sampler that the standard's variables name."""
    name = environment.get(OTEL_TRACES_SAMPLER, "").lower()
    asks_parent = name not in _WHATEVER_PARENT
    if name in _OFF:
        return EarlySampler(0, asks_parent=asks_parent)
    if name in _BY_RATIO:
        try:
            return EarlySampler(float(environment.get(OTEL_TRACES_SAMPLER_ARG, "")), asks_parent=asks_parent)
        except ValueError:
            pass  # the SDK warns of it, and takes all
    return EarlySampler(1, asks_parent=asks_parent)
