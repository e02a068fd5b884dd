"""How fresh memberships are: for each change, how long its cause had happened before it was committed.

Counted in a logarithmic histogram, a row an hour and size, so that it costs the same whatever there is to count.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import BigInteger, Integer

from core.database import TenantSession
from core.metrics import SEGMENT_CHANGES
from models import SegmentLag

STEPS: Final = 4
"""Buckets for each doubling: a figure is at most 19 % too high."""
LEAST_SECONDS: Final = 0.001
SHOWN: Final = timedelta(hours=24)
KEPT: Final = timedelta(days=30)

_ADD: Final = text("""
    INSERT INTO segment_lag (tenant_id, hour, bucket, changes)
    SELECT :tenant AS tenant_id, date_trunc('hour', now(), 'UTC'), b.bucket, b.changes
    FROM unnest(:buckets, :changes) AS b(bucket, changes)
    ORDER BY b.bucket
    ON CONFLICT (tenant_id, hour, bucket) DO UPDATE SET changes = segment_lag.changes + excluded.changes
""").bindparams(bindparam("buckets", type_=ARRAY(Integer)), bindparam("changes", type_=ARRAY(BigInteger)))


@dataclass(frozen=True, slots=True)
class Freshness:
    """How long changes of the last day took, in seconds; None where there were none."""

    changes: int
    p50_seconds: float | None
    p99_seconds: float | None
    worst_seconds: float | None


def bucket_of(seconds: float) -> int:
    """Return the bucket that a time belongs to."""
    return max(0, math.ceil(STEPS * math.log2(max(seconds, LEAST_SECONDS) / LEAST_SECONDS)))


def seconds_of(bucket: int) -> float:
    """Return the longest time that belongs to a bucket."""
    return LEAST_SECONDS * 2 ** (bucket / STEPS)


async def count(session: TenantSession, lags: Iterable[float]) -> None:
    """Count changes by the seconds they took."""
    by_bucket = Counter(map(bucket_of, lags))
    if by_bucket:
        for bucket, changes in by_bucket.items():
            SEGMENT_CHANGES.add(seconds_of(bucket), changes)
        values = {"buckets": list(by_bucket), "changes": list(by_bucket.values())}
        await session.execute(_ADD, {"tenant": session.tenant_id, **values})


async def measured(session: TenantSession) -> Freshness:
    """Return what was measured in the last day."""
    rows = (
        await session.execute(
            select(SegmentLag.bucket, func.sum(SegmentLag.changes).label("changes"))
            .where(SegmentLag.tenant_id == session.tenant_id, SegmentLag.hour > func.now() - SHOWN)
            .group_by(SegmentLag.bucket)
            .order_by(SegmentLag.bucket)
        )
    ).all()
    histogram = [(row.bucket, int(row.changes)) for row in rows]
    total = sum(changes for _, changes in histogram)
    if not total:
        return Freshness(0, None, None, None)
    worst = seconds_of(histogram[-1][0])
    return Freshness(total, _quantile(histogram, 0.5 * total), _quantile(histogram, 0.99 * total), worst)


def _quantile(histogram: list[tuple[int, int]], wanted: float) -> float:
    seen = 0
    for bucket, changes in histogram:
        seen += changes
        if seen >= wanted:
            return seconds_of(bucket)
    raise ValueError("an empty histogram has no quantiles")


async def forget(session: AsyncSession) -> None:
    """Delete what was counted long ago; needs a session of tl_system."""
    await session.execute(delete(SegmentLag).where(SegmentLag.hour < func.now() - KEPT))
