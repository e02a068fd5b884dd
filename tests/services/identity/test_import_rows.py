"""Rows are read the same wherever the file is cut, and a bad one costs no other."""

import csv
import io
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.import_rows import MAX_ROW_BYTES, Format, RawRow, read


def rows_of(content: bytes, how: Format, *, piece: int = 2**30, limit: int = 2**30) -> list[RawRow]:
    """Read a file as the worker does, `piece` bytes at a time."""
    rows: list[RawRow] = []
    position, line, wanted = 0, 1, piece
    while position < len(content):
        part = content[position : position + wanted]
        page = read(part, how, line=line, limit=limit, last=position + len(part) >= len(content))
        rows += page.rows
        position, line = position + page.size, line + page.lines
        wanted = piece if page.size else wanted + piece
    return rows


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=12),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 40),
    st.integers(1, 5),
)
def test_a_file_reads_the_same_wherever_it_is_cut(
    table: list[list[str]], delimiter: str, end: str, piece: int, limit: int
) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(table)
    content = buffer.getvalue().encode()
    rows = rows_of(content, Format("csv", delimiter=delimiter, columns=3), piece=piece, limit=limit)
    assert [row.cells for row in rows] == table
    assert b"".join(line for row in rows for line in row.text) == content


@pytest.mark.parametrize(
    ("content", "good", "bad"),
    [
        (b"a,b\n\n\nc,d", [(1, ["a", "b"]), (4, ["c", "d"])], []),
        (b"a,b\rc,d\r", [(1, ["a", "b"]), (2, ["c", "d"])], []),
        (b"a,b,,\n", [(1, ["a", "b"])], []),
        (b"a\na,b,c\na,b\n", [(3, ["a", "b"])], [1, 2]),
        (b"a,\0\na,b\n", [(2, ["a", "b"])], [1]),
        (b"a,\xff\na,\xc3\xa4\n", [(2, ["a", "ä"])], [1]),
        (b'a,"b\nc,d\ne,f\n', [(2, ["c", "d"]), (3, ["e", "f"])], [1]),
        (b'"a"b,c\nc,d\n', [(2, ["c", "d"])], [1]),
        (b'a,"b ""q"" b"\n', [(1, ["a", 'b "q" b'])], []),
        (b"a," + b"x" * 200_000 + b"\nc,d\n", [(2, ["c", "d"])], [1]),
    ],
)
def test_a_bad_row_costs_no_other(content: bytes, good: list[tuple[int, list[str]]], bad: list[int]) -> None:
    rows = rows_of(content, Format("csv", columns=2))
    assert [(row.line, row.cells) for row in rows if row.problem is None] == good
    assert [row.line for row in rows if row.problem is not None] == bad


def test_windows_1252_is_read_when_told() -> None:
    content = "Größe,50 €\n".encode("cp1252")
    (row,) = rows_of(content, Format("csv", encoding="windows-1252", columns=2))
    assert row.cells == ["Größe", "50 €"]
    (row,) = rows_of(b"a,\x81\n", Format("csv", encoding="windows-1252", columns=2))
    assert row.problem is not None


@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b"{",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\xff"}',
        b'{"a": "\\u0000"}',
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b'{"a": "' + b"x" * MAX_ROW_BYTES + b'"}',
        b'{"a": ' + b"9" * 5_000 + b"}",
    ],
)
def test_a_line_that_is_no_object_costs_no_other(line: bytes) -> None:
    good = json.dumps({"a": "\U0001f600"}).encode()
    rows = rows_of(b"\n".join([good, line, good]), Format("ndjson"))
    assert [row.problem is None for row in rows] == [True, False, True]


def test_many_quotes_that_never_close_cost_a_bounded_number_of_readings() -> None:
    content = b'"x,y\n' * 60_000
    tracemalloc.start()
    rows = rows_of(content, Format("csv", columns=2), piece=1024 * 1024, limit=5_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(row.problem is not None for row in rows)
    assert peak < 100 * 1024 * 1024
