"""Partials put into a text: `{% render 'key' %}` becomes what the partial says, when a version is saved.

So rendering a message knows of no partials, and a template means what it meant whatever becomes of them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.marketing.templating import MAX_SOURCE, TemplateError

MAX_DEPTH: Final = 5
"""Partials within each other."""

_OPENING: Final = re.compile(r"\{[{%]")
_VERBATIM: Final = re.compile(r"-?\s*(raw|comment)\b")
_RENDER: Final = re.compile(r"-?\s*render\b")
_TAG: Final = re.compile(r"""(-?)\s*render\s+(?:'([^'"]*)'|"([^'"]*)")\s*(-?)""")
_KEY: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Expanded:
    """A text with its partials in it."""

    text: str
    partials: Mapping[str, str] = field(default_factory=dict[str, str])
    """Those that are in it, directly or by others, as they are written."""
    lines: tuple[int, ...] = ()
    """Of each line, from 1, the line that it comes from; none where they are the same."""

    def line(self, number: int) -> int:
        """Return which line of what was written a line of the text comes from; a partial's are where it is named."""
        return self.lines[min(number, len(self.lines)) - 1] if self.lines else number

    def said(self, error: TemplateError) -> str:
        """Return what is wrong with the text, with the line of what was written."""
        return str(TemplateError(error.reason, None if error.line is None else self.line(error.line)))


def expand(source: str, partials: Mapping[str, str], *, within: str | None = None) -> Expanded:
    """Return a text with its partials in it; it may be that of the partial `within`.

    Raises:
        TemplateError: one is not among `partials`, holds itself or too many within each other, or it gets too long.
    """
    expansion = _Expansion(partials)
    text, lines, _ = expansion.of(source, () if within is None else (within,))
    return Expanded(text, expansion.used, tuple(lines)) if text != source else Expanded(source)


def named(source: str) -> set[str]:
    """Return the keys of the partials that a text renders itself."""
    return {tag.key for tag in _tags(source) if tag.key is not None}


def first_line(source: str) -> int | None:
    """Return the line of the first `render` of a text."""
    tag = next(_tags(source), None)
    return None if tag is None else source.count("\n", 0, tag.start) + 1


@dataclass(frozen=True, slots=True)
class _Tag:
    """A `render` as it stands in a text."""

    start: int
    end: int
    key: str | None
    """None where it does not name a partial as it should."""
    strips: tuple[bool, bool]
    """Whether the white space before it, and after it, goes."""


class _Expansion:
    """What becomes of one text; each partial is expanded once."""

    def __init__(self, partials: Mapping[str, str]) -> None:
        self.used: dict[str, str] = {}
        self._partials = partials
        self._made: dict[str, tuple[str, int]] = {}

    def of(self, source: str, path: tuple[str, ...]) -> tuple[str, list[int], int]:
        """Return the text, where its lines come from, and how deep partials stand within each other."""
        parts: list[str] = []
        lines, line, size, depth, position = [1], 1, 0, 0, 0
        strips = False

        def put(text: str, *, whole: bool) -> None:
            nonlocal size
            size += len(text)
            if size > MAX_SOURCE:
                raise TemplateError(f"is longer than {MAX_SOURCE} characters with its partials")
            parts.append(text)
            lines.extend(line if whole else line + number for number in range(1, text.count("\n") + 1))

        for tag in _tags(source):
            before = source[position : tag.start]
            own = before.lstrip() if strips else before
            line += before.count("\n", 0, len(before) - len(own))
            put(own.rstrip() if tag.strips[0] else own, whole=False)
            line += own.count("\n")
            text, below = self._partial(tag.key, line, path)
            put(text, whole=True)
            depth = max(depth, below)
            line += source.count("\n", tag.start, tag.end)
            position, strips = tag.end, tag.strips[1]
        rest = source[position:]
        own = rest.lstrip() if strips else rest
        line += rest.count("\n", 0, len(rest) - len(own))
        put(own, whole=False)
        return "".join(parts), lines, depth

    def _partial(self, key: str | None, line: int, path: tuple[str, ...]) -> tuple[str, int]:
        """Return the text of a partial named in this line, and how deep partials stand within each other by it."""
        if key is None:
            raise TemplateError("render takes the key of a partial in quotes, and nothing else", line)
        if key in path:
            raise TemplateError(f"the partial {key} renders itself: {' > '.join((*path, key))}", line)
        if key not in self._partials:
            raise TemplateError(f"there is no partial {key}", line)
        if key not in self._made:
            self._check_depth(len(path) + 1, (*path, key), line)
            self.used[key] = self._partials[key]
            try:
                text, _, below = self.of(self._partials[key], (*path, key))
            except TemplateError as error:
                raise TemplateError(error.reason, line) from error
            self._made[key] = text, below + 1
        text, depth = self._made[key]
        self._check_depth(len(path) + depth, (*path, key), line)
        return text, depth

    def _check_depth(self, depth: int, path: tuple[str, ...], line: int) -> None:
        if depth > MAX_DEPTH:
            raise TemplateError(f"more than {MAX_DEPTH} partials within each other: {' > '.join(path)}", line)


def _tags(source: str) -> Iterator[_Tag]:
    """Yield the renders of a text, but for those that are shown or left out as they stand; linearly."""
    position = 0
    while opening := _OPENING.search(source, position):
        mark = opening.group()
        end = source.find("}}" if mark == "{{" else "%}", opening.end())
        if end < 0:  # parsing refuses it
            return
        position = end + len(mark)
        if mark == "{{":
            continue
        if verbatim := _VERBATIM.match(source, opening.end(), end):
            closing = re.compile(rf"\{{%-?\s*end{verbatim[1]}\s*-?%\}}").search(source, position)
            if closing is None:
                return
            position = closing.end()
        elif _RENDER.match(source, opening.end(), end):
            tag = _TAG.fullmatch(source, opening.end(), end)
            key = None if tag is None else tag[2] or tag[3] or ""
            well = key is not None and _KEY.fullmatch(key) is not None
            strips = source[opening.end()] == "-", source[end - 1] == "-"
            yield _Tag(opening.start(), position, key if well else None, strips)
