"""The node that lets people on at a limited rate, in the order in which they came."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from journeys.command_nodes import NodeId
from journeys.conditions import Strict
from journeys.durations import Duration, DurationText

MAX_COUNT: Final = 1_000_000
MAX_PER: Final = timedelta(days=31)
MINUTE: Final = timedelta(minutes=1)


def window(per: Duration) -> timedelta:
    """Return a duration as elapsed time, its days being of 24 hours.

    Raises:
        ValueError: it is shorter than a second or longer than 31 days, or in months.
    """
    length = timedelta(days=per.days) + per.elapsed
    if per.months or not timedelta(seconds=1) <= length <= MAX_PER:
        raise ValueError("must be from one second to 31 days, as PT1M or P1D")
    return length


def _window(per: Duration) -> Duration:
    window(per)
    return per


Window = Annotated[DurationText, AfterValidator(_window)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any stretch of time as long as `per`."""

    count: int
    per: timedelta


class RateFields(Strict):
    """How a rate is written."""

    per_minute: Count | None = None
    count: Count | None = None
    per: Window | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "RateFields":
        if (self.per_minute is None) == (self.count is None) or (self.count is None) != (self.per is None):
            raise ValueError("a rate is either `per_minute`, or `count` with `per`")
        return self

    @property
    def rate(self) -> Rate:
        """The rate."""
        if self.per_minute is not None:
            return Rate(self.per_minute, MINUTE)
        if self.count is None or self.per is None:
            raise TypeError("validated: both are there")
        return Rate(self.count, window(self.per))


class RateLimitNode(RateFields):
    """Let people on at a rate, first come, first served, however many cohorts they come in."""

    type: Literal["rate_limit"]
    next: NodeId
