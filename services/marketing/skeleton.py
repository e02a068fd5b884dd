"""The fast path of rendering: a straight-line template as text with holes, filled without Liquid, regexes or parsing.

A template that only puts out variables compiles once, with its tracked links, footer, pixel and derived text already in
place. Filling it gives byte for byte what `services.marketing.rendering.render` gives; whatever that cannot be promised
for (a list, markup within a tag, white space that the derived text would collapse) is left to it.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from liquid.builtin.content import ContentNode
from liquid.builtin.expressions.arguments import PositionalArgument
from liquid.builtin.expressions.filtered import FilteredExpression
from liquid.builtin.expressions.path import Path
from liquid.builtin.expressions.primitive import StringLiteral
from liquid.builtin.output import OutputNode
from markupsafe import escape

if TYPE_CHECKING:
    from liquid import BoundTemplate

    from services.marketing.links import Links

Pieces = tuple[str | int, ...]
"""Text, and the numbers of the values that stand between."""

_FIRST_MARK: Final = 0xF0000
"""Stands for a hole while the text around it is worked on: a private character that no template has."""
_MARKS: Final = re.compile(f"[{chr(_FIRST_MARK)}-{chr(_FIRST_MARK + 0xFFF)}]")
_MAX_STATIC: Final = 300_000
_MAX_HOLES: Final = 100
_MAX_VALUE: Final = 500
"""With these no filled template reaches the limits that Liquid's output has."""
_MAX_TAG: Final = 2_000

_OPEN_REFERENCE: Final = re.compile(r"&#?[A-Za-z0-9]*$")
_IN_HREF: Final = re.compile(
    r"""<a\s+(?:[^<>"'=\s]+\s*=\s*(?:"[^"]*"|'[^']*')\s+)*href\s*=\s*["']([^"'<>]*)$""", re.IGNORECASE
)
_WEB: Final = re.compile(r"https?://", re.IGNORECASE)
_OWN_ADDRESSES: Final = {("unsubscribe_url",), ("preferences_url",), ("confirm_url",)}
_SPECIAL: Final = {"size", "first", "last"}
_CASES: Final[dict[str, Callable[[str], str]]] = {
    "upcase": str.upper,
    "downcase": str.lower,
    "capitalize": str.capitalize,
    "strip": str.strip,
}
_PLAIN_LITERAL: Final = re.compile(r"[A-Za-z0-9,.!-]+(?: [A-Za-z0-9,.!-]+)*")


@dataclass(frozen=True, slots=True)
class _Variable:
    path: tuple[str, ...]
    cases: tuple[str, ...]
    default: str | None


@dataclass(frozen=True, slots=True)
class _Target:
    """A tracked link: where it leads."""

    pieces: Pieces
    static: str | None
    """The whole target where no value stands in it."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What a skeleton is made from: the parsed templates and what is added to each mail."""

    subject: "BoundTemplate"
    body: "BoundTemplate"
    text: "BoundTemplate | None"
    finish: Callable[[str, str, str, Callable[[str], str]], tuple[str, str]]
    """`finish(body, unsubscribe, pixel, tracked)` gives HTML and derived text of a body."""
    finish_text: Callable[[str, str], str]
    """`finish_text(text, unsubscribe)` gives the text part of a template that has one."""


class Skeleton:
    """A template version compiled for one form of links and one postal address."""

    def __init__(self, texts: Texts, *, base: str) -> None:
        """Compile.

        Raises:
            NotStraightError: it is not a template for the fast path.
        """
        self._base = base
        self._variables: list[_Variable] = []
        self._targets: list[_Target] = []
        # A mark's number: variables raw from 0, escaped from `_ESCAPED`, then what each message has of its own.
        unsubscribe, pixel = self._mark(_UNSUBSCRIBE), self._mark(_PIXEL)
        self.subject = self._cut(self._marked(texts.subject, html_escaped=False))
        body = self._marked(texts.body, html_escaped=True)
        self._check(body)
        finished, derived = texts.finish(body, unsubscribe, pixel, self._tracked)
        self.html = self._cut(finished)
        if texts.text is None:
            # Escaped values are unescaped again in the text: they are the raw ones.
            self.derived = True
            self.text = tuple(
                piece - _ESCAPED if isinstance(piece, int) and _ESCAPED <= piece < _UNSUBSCRIBE else piece
                for piece in self._cut(derived)
            )
        else:
            self.derived = False
            raw = self._marked(texts.text, html_escaped=False)
            self.text = self._cut(texts.finish_text(raw, unsubscribe))
        self._of_text = {piece for piece in self.text if isinstance(piece, int) and piece < _ESCAPED}
        self._resolve()

    def _resolve(self) -> None:
        """Number all that is used in the order in which `values` lists it."""
        count = len(self._variables)
        places = {number: number for number in range(count)}
        places |= {_ESCAPED + number: count + number for number in range(count)}
        places |= {_UNSUBSCRIBE: 2 * count, _PIXEL: 2 * count + 1}
        places |= {_TARGET + number: 2 * count + 2 + number for number in range(len(self._targets))}

        def placed(pieces: Pieces) -> Pieces:
            return tuple(places[piece] if isinstance(piece, int) else piece for piece in pieces)

        self.subject, self.html, self.text = placed(self.subject), placed(self.html), placed(self.text)
        self._targets = [_Target(placed(each.pieces), each.static) for each in self._targets]
        self._of_text = {places[number] for number in self._of_text}
        if sum(isinstance(piece, int) for piece in (*self.html, *self.text, *self.subject)) > 3 * _MAX_HOLES:
            raise NotStraightError

    @property
    def reads(self) -> frozenset[tuple[str, ...]]:
        """The paths of the variables that `values` looks up."""
        return frozenset(variable.path for variable in self._variables)

    @property
    def count(self) -> int:
        """How many values `values` returns."""
        return 2 * len(self._variables) + 2 + len(self._targets)

    def values(self, given: Mapping[str, Any], links: "Links") -> list[str] | None:
        """Return what stands in the holes for one person; None where only Liquid knows."""
        raw: list[str] = []
        for variable in self._variables:
            value = _value(variable, given)
            if value is None or len(value) > _MAX_VALUE or "\r" in value:
                return None
            raw.append(value)
        if links.pixel is None or links.base != self._base:
            return None
        if self.derived:
            for number in self._of_text:
                value = raw[number]
                # Anything else might be collapsed or trimmed with the white space around it.
                if not value or not value.isprintable() or value[0] == " " or value[-1] == " " or "  " in value:
                    return None
        found = raw + [value if value.isalnum() else str(escape(value)) for value in raw]
        found += (links.unsubscribe, links.pixel)
        for target in self._targets:
            found.append(self._link(target, found, links))
        return found

    def _link(self, target: _Target, found: Sequence[str], links: "Links") -> str:
        if target.static is not None:
            return html.escape(links.click(target.static))
        written = filled(target.pieces, found)
        address = html.unescape(written).strip()
        return written if address.startswith(self._base) else html.escape(links.click(address))

    def _tracked(self, target: str) -> str:
        """Return a mark for the address that a link with this target, still escaped, gets."""
        pieces = self._cut(target)
        static: str | None = None
        if all(isinstance(piece, str) for piece in pieces):
            static = html.unescape(target).strip()
            if static.startswith(self._base):
                return target
        self._targets.append(_Target(pieces, static))
        if len(self._targets) > _MAX_HOLES:
            raise NotStraightError
        return self._mark(_TARGET + len(self._targets) - 1)

    def _marked(self, template: "BoundTemplate", *, html_escaped: bool) -> str:
        parts: list[str] = []
        for node in template.nodes:
            if isinstance(node, ContentNode):
                if _MARKS.search(node.text) or node.text.endswith("\r"):
                    raise NotStraightError
                # Liquid puts lines out so.
                parts.append(node.text.replace("\r\n", "\n").replace("\r", "\n"))
            elif isinstance(node, OutputNode):
                number = self._variable(node)
                parts.append(self._mark(number + _ESCAPED if html_escaped else number))
            else:
                raise NotStraightError
        if len(parts) > 2 * _MAX_HOLES or sum(map(len, parts)) > _MAX_STATIC:
            raise NotStraightError
        return "".join(parts)

    def _variable(self, node: OutputNode) -> int:
        variable = _read(node.expression)
        if variable not in self._variables:
            self._variables.append(variable)
        return self._variables.index(variable)

    @staticmethod
    def _mark(number: int) -> str:
        return chr(_FIRST_MARK + number)

    @staticmethod
    def _cut(text: str) -> Pieces:
        pieces: list[str | int] = []
        position = 0
        for mark in _MARKS.finditer(text):
            pieces += (text[position : mark.start()], ord(mark.group()) - _FIRST_MARK)
            position = mark.end()
        pieces.append(text[position:])
        return tuple(piece for piece in pieces if piece != "")

    def _check(self, body: str) -> None:
        """Hold holes to places where no value changes how the HTML around it is read."""
        for mark in _MARKS.finditer(body):
            at = mark.start()
            before = body[max(0, at - _MAX_TAG) : at]
            if _OPEN_REFERENCE.search(before[-50:]):
                raise NotStraightError
            opening = body.rfind("<", 0, at)
            if opening <= body.rfind(">", 0, at):
                continue  # text
            inside = _IN_HREF.match(body[opening:at]) if at - opening <= _MAX_TAG else None
            if inside is None:
                raise NotStraightError
            number = ord(mark.group()) - _FIRST_MARK - _ESCAPED
            is_ours = inside[1] == "" and self._variables[number].path in _OWN_ADDRESSES
            after_ours = bool(inside[1]) and ord(inside[1][0]) >= _FIRST_MARK
            if not is_ours and not after_ours and not _WEB.match(inside[1]):
                raise NotStraightError


_ESCAPED: Final = 0x200
_UNSUBSCRIBE: Final = 0x400
_PIXEL: Final = 0x401
_TARGET: Final = 0x402


class NotStraightError(Exception):
    """The template is one for Liquid."""


def filled(pieces: Pieces, values: Sequence[str]) -> str:
    """Return the text with its values."""
    return "".join([piece if isinstance(piece, str) else values[piece] for piece in pieces])


def _read(expression: object) -> _Variable:
    if not isinstance(expression, FilteredExpression) or type(expression) is not FilteredExpression:
        raise NotStraightError
    path = expression.left
    if not isinstance(path, Path):
        raise NotStraightError
    segments = [segment for segment in path.path if isinstance(segment, str)]
    if len(segments) != len(path.path) or _SPECIAL & set(segments):
        raise NotStraightError
    cases: list[str] = []
    default: str | None = None
    for each in expression.filters or []:
        if default is None and each.name in _CASES and not each.args:
            cases.append(each.name)
        elif default is None and each.name == "default" and len(each.args) == 1:
            given = each.args[0]
            literal = given.value if isinstance(given, PositionalArgument) else None
            if not isinstance(literal, StringLiteral) or not _PLAIN_LITERAL.fullmatch(literal.value):
                raise NotStraightError
            default = str(literal.value)
        else:
            raise NotStraightError
    return _Variable(tuple(segments), tuple(cases), default)


def _value(variable: _Variable, given: Mapping[str, Any]) -> str | None:
    value: Any = given
    for segment in variable.path:
        if value.__class__ is not dict:
            return None
        value = value.get(segment)
        if value is None:
            break
    if value is None:
        return variable.default or ""
    if type(value) is str:
        for case in variable.cases:
            value = _CASES[case](value)
        return value or variable.default or ""
    if variable.cases or variable.default is not None:
        return None
    if type(value) is bool:
        return str(value).lower()
    return str(value) if type(value) is int or isinstance(value, UUID | datetime) else None
