"""Reading rows from a piece of a file, and knowing where the next one begins: a crash then costs a page, not the file.

A file is bytes at positions; a row is one or more lines (a quoted cell may hold line ends). Reading begins at a row and
stops after one, so a position says all there is to remember.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

MAX_ROW_BYTES: Final = 1024 * 1024
"""A longer row is refused, unread: no person has that much, and memory must not depend on the file."""
KEPT_OF_ROW: Final = 10_000
"""Characters of a refused row that are kept to show."""
_REREADS: Final = 20
"""How often a page is read again after a quote that is never closed: each time costs up to a cell's size."""

_HALVES: Final = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs: what bytes that are no text are decoded to."""

ENCODINGS: Final[Mapping[str, str]] = {"utf-8": "utf-8", "windows-1252": "cp1252"}
DELIMITERS: Final = (",", ";", "\t")


@dataclass(frozen=True, slots=True)
class Format:
    """How to read a file."""

    kind: str
    """`csv` or `ndjson`."""
    encoding: str = "utf-8"
    """A key of `ENCODINGS`."""
    delimiter: str = ","
    columns: int = 0
    """Of a CSV file: how many cells a row has."""


@dataclass(slots=True)
class RawRow:
    """A row as it stands in the file."""

    line: int
    """Its first, the file's first being 1."""
    cells: list[str]
    """Of CSV; empty where there is a problem."""
    item: Mapping[str, Any] | None
    """Of NDJSON."""
    problem: str | None
    text: Sequence[bytes]
    """Its lines, for showing it when it is refused."""

    def shown(self, encoding: str) -> str:
        """Return the row for people to read, at most `KEPT_OF_ROW` characters of it."""
        text = b"".join(self.text)[: 4 * KEPT_OF_ROW].decode(ENCODINGS[encoding], "replace")
        return text.replace("\0", "\ufffd").rstrip("\r\n")[:KEPT_OF_ROW]


@dataclass(slots=True)
class RawPage:
    """Rows that follow one another."""

    rows: list[RawRow] = field(default_factory=list[RawRow])
    size: int = 0
    """Bytes from the first row to after the last."""
    lines: int = 0
    """Lines among them, empty ones too."""


def read(piece: bytes, how: Format, *, line: int, limit: int, last: bool) -> RawPage:
    """Return up to `limit` rows from the beginning of `piece`, whose first line is `line`.

    Without `last` more of the file follows `piece`: a row that may go on there is left for the next time. No row at
    all then means that more is needed, see `endless` where that is too much.
    """
    lines = piece.splitlines(keepends=True)
    # A lone \\r at the end may be half of a \\r\\n.
    if not last and lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    page = RawPage()
    if how.kind == "csv":
        taken = _read_csv(lines, how, page.rows, line=line, limit=limit, last=last)
    else:
        taken = _read_ndjson(lines, page.rows, line=line, limit=limit)
    page.lines = taken
    page.size = sum(map(len, lines[:taken]))
    return page


class _Lines(Iterator[str]):
    """Lines for the CSV reader, from any of them on."""

    def __init__(self, lines: Sequence[bytes], codec: str) -> None:
        self.index = 0
        try:
            self.texts = [line.decode(codec) for line in lines]
            self.clean = True
        except UnicodeDecodeError:
            # What is no text becomes halves of surrogate pairs, which the row is then refused for.
            self.texts = [line.decode(codec, "surrogateescape") for line in lines]
            self.clean = False

    def __next__(self) -> str:
        try:
            text = self.texts[self.index]
        except IndexError:
            raise StopIteration from None
        self.index += 1
        return text


def _read_csv(lines: Sequence[bytes], how: Format, rows: list[RawRow], *, line: int, limit: int, last: bool) -> int:
    """Append rows; return how many lines they take."""
    source = _Lines(lines, ENCODINGS[how.encoding])
    clean = source.clean and b"\0" not in b"".join(lines)
    reader = csv.reader(source, delimiter=how.delimiter, strict=True)
    rereads = 0
    while source.index < len(lines) and len(rows) < limit:
        begin = source.index
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if source.index == len(lines) and not last and sum(map(len, lines[begin:])) < MAX_ROW_BYTES:
                return begin  # it may go on in the next piece
            if rereads < _REREADS:
                rereads += 1
                source.index = begin + 1  # one bad quote must not swallow the good rows after it
            reader = csv.reader(source, delimiter=how.delimiter, strict=True)
            rows.append(RawRow(line + begin, [], None, _reason(error), lines[begin : source.index]))
            continue
        if cells:
            problem = _miscounted(cells, how.columns) or (None if clean else _unstorable(cells))
            rows.append(RawRow(line + begin, cells, None, problem, lines[begin : source.index]))
    return source.index


def _miscounted(cells: list[str], columns: int) -> str | None:
    if len(cells) == columns:
        return None
    if len(cells) > columns and not any(cells[columns:]):
        del cells[columns:]  # empty cells at the end of a line are a spreadsheet's
        return None
    return f"has {len(cells)} cells where the header has {columns}"


def _read_ndjson(lines: Sequence[bytes], rows: list[RawRow], *, line: int, limit: int) -> int:
    """Append rows; return how many lines they take."""
    for number, text in enumerate(lines):
        if len(rows) >= limit:
            return number
        if text.strip():
            item, problem = _parsed(text)
            rows.append(RawRow(line + number, [], item, problem, lines[number : number + 1]))
    return len(lines)


def _parsed(text: bytes) -> tuple[Mapping[str, Any] | None, str | None]:
    """Return the object, or why it is none."""
    if len(text) > MAX_ROW_BYTES:
        return None, _too_long()
    try:
        item: object = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        unsound = b"\\u" in text and not storable(item)
    except UnicodeDecodeError:
        return None, "is not UTF-8"
    except RecursionError:
        return None, "nests too deeply"
    except ValueError:
        return None, "is not JSON"
    if unsound:
        return None, "holds a character that cannot be stored (NUL or half a pair)"
    return (cast("Mapping[str, Any]", item), None) if isinstance(item, dict) else (None, "is not a JSON object")


def _too_long() -> str:
    return f"is longer than {MAX_ROW_BYTES} bytes"


def endless(line: int, piece: bytes) -> RawRow:
    """Return the refusal of a row that `piece`, of `MAX_ROW_BYTES` or more, begins with and does not end."""
    return RawRow(line, [], None, _too_long(), [piece[: 4 * KEPT_OF_ROW]])


def _reason(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end" in text or "field larger" in text:
        return f"has a quote that is not closed, or a cell of more than {csv.field_size_limit()} characters"
    return "has a quoted cell that goes on after its closing quote; a quote within a cell is written twice"


def _unstorable(cells: Sequence[str]) -> str | None:
    if any("\0" in cell for cell in cells):
        return "holds a NUL character"
    if any(map(_HALVES.search, cells)):
        return "is not text in the file's encoding; see the option `encoding`"
    return None


def _refuse(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    return value if abs(value) != float("inf") else _refuse(text)


def storable(value: object) -> bool:
    """Return whether Postgres can hold the JSON value: no NUL in it, no half of a surrogate pair."""
    text = json.dumps(value, ensure_ascii=False)
    return "\\u0000" not in text and _HALVES.search(text) is None
