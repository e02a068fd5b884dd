"""Cursors lead back to the row they stand after, and nowhere else."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.paging import decode_cursor, encode_cursor
from core.errors import InvalidError


@given(
    st.uuids(),
    st.datetimes(timezones=st.just(UTC)),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
def test_a_cursor_gives_back_what_it_was_made_of(row: UUID, at: datetime, number: int, text: str) -> None:
    assert decode_cursor(encode_cursor(row, at, number, text), [UUID, datetime, int, str]) == (row, at, number, text)


@given(st.text(max_size=40))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidError) as refused:
        decode_cursor(text, [UUID])
    assert refused.value.errors[0].field == "cursor"


@pytest.mark.parametrize(
    ("cursor", "kinds"),
    [
        (encode_cursor("x"), [UUID]),
        (encode_cursor("x"), [int]),
        (encode_cursor(2**63), [int]),
        (encode_cursor("2026-01-01T00:00:00"), [datetime]),
        (encode_cursor("a\0b"), [str]),
        (encode_cursor("a", "b"), [str]),
        (encode_cursor(), [str]),
    ],
)
def test_a_cursor_of_another_list_is_refused(cursor: str, kinds: list[type[UUID | datetime | int | str]]) -> None:
    with pytest.raises(InvalidError):
        decode_cursor(cursor, kinds)
