"""Identifiers: UUID version 7 (RFC 9562), so rows made together lie together in their indexes."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """Return a new time-ordered identifier."""
    return uuid7()


def new_ids(count: int) -> list[UUID]:
    """Return `count` new identifiers, ascending."""
    return [uuid7() for _ in range(count)]
