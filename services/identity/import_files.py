"""The file of an import, kept in the store piece by piece so that any worker can read it from anywhere on."""

import codecs
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import insert, select

from core.database import TenantSession
from core.errors import InvalidError
from models import ImportChunk
from services.identity.import_rows import DELIMITERS, ENCODINGS, Format

CHUNK: Final = 1024 * 1024
"""Bytes of a piece, the last one excepted."""
MAX_COLUMNS: Final = 1_000

_BOMS: Final = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class Reading(Protocol):
    """What options of any import say about how its file is read."""

    @property
    def encoding(self) -> str:
        """A key of `ENCODINGS`."""
        ...

    @property
    def delimiter(self) -> str | None:
        """Of CSV; None to recognise it."""
        ...

    @property
    def preset(self) -> str | None:
        """The system the file comes from; None to recognise it."""
        ...

    def stored(self) -> dict[str, Any]:
        """Return all options as JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Detected:
    """What the beginning of a file shows."""

    format: str
    """`csv` or `ndjson`."""
    encoding: str = "utf-8"
    delimiter: str = ","
    columns: tuple[str, ...] = ()
    preset: str | None = None
    header_bytes: int = 0
    header_lines: int = 0
    warnings: tuple[str, ...] = field(default=())

    def how(self) -> Format:
        """Return how to read the file."""
        return Format(self.format, self.encoding, self.delimiter, len(self.columns))

    def stored(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Detected":
        """Return what `stored` made."""
        return _STORED.validate_python(stored)


_STORED: Final = TypeAdapter(Detected)


class Pieces:
    """Cuts what arrives into pieces to keep: UTF-16 becomes UTF-8, a byte order mark is dropped."""

    def __init__(self) -> None:
        """Nothing has arrived."""
        self._buffer = bytearray()
        self._begun = False
        self._decoder: codecs.IncrementalDecoder | None = None

    def add(self, data: bytes) -> list[bytes]:
        """Take data; return the pieces that are whole now.

        Raises:
            InvalidError: it began as UTF-16 and is not.
        """
        if not self._begun:
            self._buffer += data
            if len(self._buffer) < 4:  # noqa: PLR2004 - what an encoding is told by
                return []
            data = self._begin()
        self._buffer += self._recoded(data, final=False)
        whole = len(self._buffer) // CHUNK * CHUNK
        pieces = [bytes(self._buffer[at : at + CHUNK]) for at in range(0, whole, CHUNK)]
        del self._buffer[:whole]
        return pieces

    def end(self) -> list[bytes]:
        """Return what is left."""
        rest = b"" if self._begun else self._begin()
        self._buffer += self._recoded(rest, final=True)
        return [bytes(self._buffer)] if self._buffer else []

    def _begin(self) -> bytes:
        """Tell the encoding by the first bytes; return them without the mark."""
        self._begun = True
        data = bytes(self._buffer)
        self._buffer.clear()
        for mark, codec in _BOMS:
            if data.startswith(mark):
                self._decoder = codecs.getincrementaldecoder(codec)()
                return data[len(mark) :]
        if data[1:2] == b"\0" or data[:1] == b"\0":  # every other byte of Western text is NUL
            codec = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
            self._decoder = codecs.getincrementaldecoder(codec)()
        return data.removeprefix(codecs.BOM_UTF8)

    def _recoded(self, data: bytes, *, final: bool) -> bytes:
        if self._decoder is None:
            return data
        try:
            return self._decoder.decode(data, final).encode()
        except UnicodeError as error:
            raise InvalidError.of("file", "looks like UTF-16, but is not") from error


async def keep(session: TenantSession, import_id: UUID, number: int, content: bytes) -> None:
    """Keep a piece; all before it are `CHUNK` bytes long."""
    await session.execute(
        insert(ImportChunk).values(
            tenant_id=session.tenant_id,
            import_id=import_id,
            number=number,
            position=number * CHUNK,
            content=content,
        )
    )


async def fetch(session: TenantSession, import_id: UUID, position: int) -> bytes:
    """Return the file from `position` to the end of the piece it is in; nothing past the end."""
    content = await session.scalar(
        select(ImportChunk.content).where(
            ImportChunk.tenant_id == session.tenant_id,
            ImportChunk.import_id == import_id,
            ImportChunk.number == position // CHUNK,
        )
    )
    return b"" if content is None else content[position % CHUNK :]


def detect(
    head: bytes,
    options: Reading,
    *,
    recognized: Callable[[Sequence[str]], str | None],
    file_name: str | None,
    content_type: str | None,
) -> Detected:
    """Return what the first piece of a file shows; `recognized` tells by its columns which system it comes from.

    Raises:
        InvalidError: it is empty, or has no header that can be read.
    """
    if not head.strip():
        raise InvalidError.of("file", "is empty")
    if _is_ndjson(head, file_name, content_type):
        return Detected("ndjson", warnings=_utf8_warnings(head, options))
    lines = head.splitlines(keepends=True)
    codec = ENCODINGS[options.encoding]
    first = next(number for number, line in enumerate(lines) if line.strip())
    delimiter = options.delimiter or _delimiter(lines[first])
    texts = io.StringIO("".join(line.decode(codec, "replace") for line in lines[first:]), newline="")
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    try:
        cells = next(reader)
    except csv.Error as error:
        raise InvalidError.of("file", f"has a header that cannot be read: {error}") from error
    if len(cells) > MAX_COLUMNS:
        raise InvalidError.of("file", f"has more than {MAX_COLUMNS} columns")
    columns, warnings = _unique(cells)
    if any("@" in cell for cell in cells):
        warnings.append("The first line looks like a person, but it is taken for the header.")
    lines_read = first + reader.line_num
    return Detected(
        "csv",
        encoding=options.encoding,
        delimiter=delimiter,
        columns=tuple(columns),
        preset=options.preset or recognized(columns),
        header_bytes=sum(map(len, lines[:lines_read])),
        header_lines=lines_read,
        warnings=(*warnings, *_utf8_warnings(head, options)),
    )


def _is_ndjson(head: bytes, file_name: str | None, content_type: str | None) -> bool:
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind in {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/json"}:
        return True
    if kind == "text/csv":
        return False
    if file_name and file_name.lower().endswith((".csv", ".tsv")):
        return False
    return head.lstrip()[:1] == b"{"


def _delimiter(header: bytes) -> str:
    """Return which one parts the header's names, those in quotes left out."""
    plain = b"".join(header.split(b'"')[::2])
    return max(DELIMITERS, key=lambda each: plain.count(each.encode()))


def _unique(cells: list[str]) -> tuple[list[str], list[str]]:
    """Return the columns' names, each once, and what to say about those that were changed."""
    columns: list[str] = []
    warnings: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = " ".join(cell.replace("\0", "").split()) or f"column {number}"
        again = name
        times = 1
        while again in columns:
            times += 1
            again = f"{name} ({times})"
        if again != name:
            warnings.append(f"There are several columns {name[:100]!r}; one of them is called {again[:100]!r} here.")
        columns.append(again)
    return columns, warnings


def _utf8_warnings(head: bytes, options: Reading) -> tuple[str, ...]:
    if options.encoding != "utf-8":
        return ()
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return ("The file is not UTF-8; it may be Windows-1252: upload it again with that as option `encoding`.",)
    return ()
