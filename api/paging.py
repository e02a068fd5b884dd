"""Lists a page at a time, by keyset: a cursor holds the last row's sort key, so pages stay right while rows change."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from core.errors import InvalidError

ItemT = TypeVar("ItemT")

LimitParam = Annotated[int, Query(ge=1, le=200, description="How many items a page holds")]
"""Use with the default `DEFAULT_LIMIT`."""
CursorParam = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before")]
DEFAULT_LIMIT = 50


class Page(BaseModel, Generic[ItemT]):
    """One page of a list."""

    items: list[ItemT]
    next_cursor: str | None = None
    """Give it as `cursor` for the next page; null on the last."""


def encode_cursor(*values: UUID | datetime | int | str) -> str:
    """Return the opaque cursor that stands after the row with these sort values."""
    texts = [value.isoformat() if isinstance(value, datetime) else str(value) for value in values]
    return base64.urlsafe_b64encode(json.dumps(texts).encode()).rstrip(b"=").decode()


def decode_cursor(text: str, types: Sequence[type[UUID | datetime | int | str]]) -> tuple[Any, ...]:
    """Return the sort values that `encode_cursor` put in, one of each type; times are in UTC.

    Raises:
        InvalidError: the cursor is not one of ours, or of another list.
    """
    try:
        texts: Any = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
        return tuple(_value(kind, item) for kind, item in zip(types, texts, strict=True))
    except (binascii.Error, ValueError, TypeError, OverflowError) as error:
        raise InvalidError.of("cursor", "is not a cursor of this list") from error


def decode_entry(text: str) -> tuple[datetime, UUID]:
    """Return time, in UTC, and id of the entry that a cursor of a log stands behind.

    Raises:
        InvalidError: as `decode_cursor`.
    """
    at, entry_id = decode_cursor(text, [datetime, UUID])
    return at, entry_id


def _value(kind: type[UUID | datetime | int | str], text: object) -> UUID | datetime | int | str:
    if not isinstance(text, str) or "\0" in text:
        raise TypeError
    if kind is datetime:
        value = datetime.fromisoformat(text)
        if value.tzinfo is None:
            raise ValueError
        return value.astimezone(UTC)
    if kind is int:
        number = int(text)
        if abs(number) >= 2**63:
            raise ValueError
        return number
    return UUID(text) if kind is UUID else text
