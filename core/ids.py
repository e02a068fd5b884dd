"""Identifiers: UUID version 7 (RFC 9562), so rows made together lie together in their indexes."""

from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as RowUUID  # noqa: N811 - what rows have for ids: a `uuid.UUID` that is made in a sixth of the time
from uuid_utils import uuid7


def new_id() -> UUID:
    """Return a new time-ordered identifier."""
    return RowUUID(uuid7().bytes)


def new_ids(count: int) -> list[UUID]:
    """Return `count` new identifiers, ascending."""
    return [RowUUID(uuid7().bytes) for _ in range(count)]
