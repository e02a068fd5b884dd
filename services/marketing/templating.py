"""Liquid, bounded: whatever a tenant writes, parsing and rendering take bounded time and memory.

The library's own limits leave holes: `{{ (1..100000000) | join }}` takes minutes and gigabytes, and 20 kB of unclosed
braces take its lexer minutes. So sources are scanned before they are parsed, loops count every iteration, and each
filter's arguments and result are held to a size.
"""

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, cast

from liquid import BoundTemplate, Environment, Node, RenderContext
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.tags.for_tag import ForLoop
from liquid.builtin.tags.tablerow_tag import TableRow
from liquid.exceptions import LiquidError, LoopIterationLimitError, ResourceLimitError
from liquid.expression import Expression
from liquid.limits import to_int

from services.marketing.plain_text import from_html

MAX_SOURCE: Final = 200_000
"""Characters of a template."""
MAX_EXPRESSION: Final = 500
"""Characters between `{{` and `}}`, or `{%` and `%}`: the lexer's time grows with more than their square."""
MAX_BLANKS: Final = 60
"""White space in a row within a tag, which costs the lexer its square too."""
MAX_OUTPUT_BYTES: Final = 1_000_000
MAX_ITERATIONS: Final = 10_000
"""Iterations of all loops of one rendering together."""
MAX_SECONDS: Final = 1.0
"""A rendering still looping after this long is ended."""
MAX_TEXT: Final = 200_000
"""Characters a filter takes or gives."""
MAX_ITEMS: Final = 10_000
"""Items of a range or list that a filter takes or gives."""
MAX_UNIQUE_ITEMS: Final = 1_000
"""`uniq` compares each item with each."""
MAX_INTEGER_BITS: Final = 256
MAX_DATE_TEXT: Final = 100

REMOVED_TAGS: Final = ("include", "render", "liquid", "doc")
"""No template loads another, and the rest only widens what must be bounded."""
REMOVED_FILTERS: Final = ("safe",)
"""What people or events say never reaches HTML unescaped."""


class TemplateError(Exception):
    """A template cannot be parsed or rendered; `line` counts from 1 where it is known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        """Keep what is wrong and where."""
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason = reason
        self.line = line


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that a template reads from outside: its path, and where."""

    path: tuple[str | None, ...]
    """Segments, such as `("person", "first_name")`; None stands for one known only when rendering."""
    line: int

    def __str__(self) -> str:
        return ".".join("[...]" if segment is None else segment for segment in self.path)


class _Context(RenderContext):
    """A render context that counts every iteration of every loop, and watches the clock."""

    __slots__ = ("_deadline", "_iterations")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the library's own signature
        super().__init__(*args, **kwargs)
        self._deadline = time.monotonic() + MAX_SECONDS
        self._iterations = 0

    def raise_for_loop_limit(self, length: int = 1) -> None:
        self._iterations += length
        if self._iterations > MAX_ITERATIONS:
            raise LoopIterationLimitError(f"loops run more than {MAX_ITERATIONS} times", token=None)

    @contextmanager
    def loop(self, namespace: Mapping[str, object], forloop: ForLoop | TableRow) -> Generator[RenderContext]:
        forloop.it = self._watched(forloop.it)
        with super().loop(namespace, forloop) as context:
            yield context

    def _watched(self, items: Iterator[object]) -> Iterator[object]:
        for item in items:
            if time.monotonic() > self._deadline:
                raise ResourceLimitError(f"takes longer than {MAX_SECONDS:g} s", token=None)
            yield item


class _Template(BoundTemplate):
    """A template whose ranges are held to a size."""

    context_class = _Context

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the library's own signature
        super().__init__(*args, **kwargs)
        pending: list[Node] = list(self.nodes)
        context = _Context(self)
        while pending:
            node = pending.pop()
            pending.extend(node.children(context, include_partials=False))
            expressions = list(node.expressions())
            while expressions:
                expression = expressions.pop()
                expressions.extend(expression.children())
                if isinstance(expression, RangeLiteral):
                    expression.stop = _Stop(expression.start, expression.stop)


class _Stop(Expression):
    """The end of a range; refuses one that makes the range too long, for `reversed` would list it all."""

    __slots__ = ("_start", "_stop")

    def __init__(self, start: Expression, stop: Expression) -> None:
        super().__init__(stop.token)
        self._start = start
        self._stop = stop

    def __str__(self) -> str:
        return str(self._stop)

    def evaluate(self, context: RenderContext) -> object:
        stop = self._stop.evaluate(context)
        start = self._start.evaluate(context)
        with suppress(TypeError, ValueError):  # the range itself takes what is no number for 0
            _at_most(to_int(stop) - to_int(start), MAX_ITEMS, "items")
        return stop

    def children(self) -> list[Expression]:
        return [self._stop]


class _Environment(Environment):
    template_class = _Template
    block_nesting_limit = 20
    context_depth_limit = 20
    loop_iteration_limit = MAX_ITERATIONS
    local_namespace_limit = 2_000_000
    output_stream_limit = MAX_OUTPUT_BYTES

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        for tag in REMOVED_TAGS:
            self.tags.pop(tag, None)
        for name in REMOVED_FILTERS:
            self.filters.pop(name, None)
        self.filters["strip_html"] = from_html  # the library's runs in quadratic time
        for name, function in self.filters.items():
            self.filters[name] = _bounded(name, function)


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter whose arguments and result are held to a size; what could explode between is foreseen."""
    grows = _GROWTH.get(name)

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - a filter takes and gives anything
        for value in args:
            _hold(value)
        if grows is not None:
            grows(*args)
        result = function(*args, **kwargs)
        _hold(result)
        return result

    return bounded


def _hold(value: object) -> None:
    match value:
        case str():
            _at_most(len(value), MAX_TEXT, "characters")
        case list() | tuple():
            _at_most(len(cast("Sequence[object]", value)), MAX_ITEMS, "items")
        case range():
            # A range may be too long for len().
            _at_most(value.stop - value.start, MAX_ITEMS, "items")
        case int():
            _at_most(value.bit_length(), MAX_INTEGER_BITS, "bits")
        case _:
            pass


def _at_most(size: int, limit: int, unit: str) -> None:
    if size > limit:
        raise ResourceLimitError(f"a value has more than {limit} {unit}", token=None)


def _replaced(value: object, found: object, put: object = "", *_: object) -> None:
    text, old, new = str(value), str(found), str(put)
    _at_most(len(text) + text.count(old) * max(0, len(new) - len(old)), MAX_TEXT, "characters")


def _joined(value: object, separator: object = " ", *_: object) -> None:
    if isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
        size = sum(len(item) if isinstance(item, str) else 1 for item in items)
        _at_most(size + len(items) * len(str(separator)), MAX_TEXT, "characters")
    elif isinstance(value, range):
        _at_most(len(value) * len(str(separator)), MAX_TEXT, "characters")


def _dated(*args: object) -> None:
    for value in args:
        if isinstance(value, str):
            _at_most(len(value), MAX_DATE_TEXT, "characters")


def _compared(value: object, *_: object) -> None:
    if isinstance(value, list | tuple | range):
        _at_most(len(cast("Sequence[object]", value)), MAX_UNIQUE_ITEMS, "items")


_GROWTH: Final[dict[str, Callable[..., None]]] = {
    "replace": _replaced,
    "join": _joined,
    "date": _dated,
    "uniq": _compared,
}

_HTML: Final = _Environment(autoescape=True)
_TEXT: Final = _Environment(autoescape=False)

_OPENING = re.compile(r"\{[{%]")
_BLANKS = re.compile(rf"\s{{{MAX_BLANKS + 1}}}")
_VERBATIM = re.compile(r"-?\s*raw\b")
_END_VERBATIM = re.compile(r"\{%-?\s*endraw\s*-?%\}")


def parse(source: str, *, html: bool) -> BoundTemplate:
    """Parse a template; with `html`, values are escaped where they are put in.

    Raises:
        TemplateError: with the line.
    """
    _scan(source)
    environment = _HTML if html else _TEXT
    try:
        return environment.from_string(source)
    except LiquidError as error:
        problem = _explained(error)
        # Without a place it is something missing at the end.
        raise problem if problem.line else TemplateError(problem.reason, _line(source, len(source))) from error


def render(template: BoundTemplate, values: Mapping[str, object]) -> str:
    """Render with these values; what is missing is empty.

    Raises:
        TemplateError: a limit was reached, or a filter could not take its argument.
    """
    try:
        return template.render(values)
    except LiquidError as error:
        raise _explained(error) from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Filters let some of Python's own errors through, such as an infinite number rounded.
        raise TemplateError(str(error)) from error


def variables(source: str, template: BoundTemplate) -> list[Variable]:
    """Return what the template reads from outside, in the order of their roots."""
    analysis = template.analyze(include_partials=False)
    return [
        Variable(
            tuple(
                segment if isinstance(segment, str) else (None if isinstance(segment, list) else str(segment))
                for segment in variable.segments
            ),
            _line(source, variable.span.index),
        )
        for found in analysis.globals.values()
        for variable in found
    ]


def unknown_filters(source: str, template: BoundTemplate) -> list[tuple[str, int]]:
    """Return the filters it uses that do not exist, each with its line: the parser lets them pass."""
    used = template.analyze(include_partials=False).filters
    return [
        (name, _line(source, span.index))
        for name, spans in used.items()
        if name not in template.env.filters
        for span in spans
    ]


def _scan(source: str) -> None:
    """Refuse what the lexer would take long over: an opening never closed, an overlong expression."""
    if len(source) > MAX_SOURCE:
        raise TemplateError(f"is longer than {MAX_SOURCE} characters")
    position = 0
    while opening := _OPENING.search(source, position):
        mark = opening.group()
        end = source.find("}}" if mark == "{{" else "%}", opening.end())
        if end < 0:
            raise TemplateError(f"`{mark}` is never closed", _line(source, opening.start()))
        if end - opening.end() > MAX_EXPRESSION:
            raise TemplateError(f"more than {MAX_EXPRESSION} characters in one tag", _line(source, opening.start()))
        if _BLANKS.search(source, opening.end(), end):
            raise TemplateError(f"more than {MAX_BLANKS} blanks in a row", _line(source, opening.start()))
        position = end + len(mark)
        if mark == "{%" and _VERBATIM.match(source, opening.end()):
            closing = _END_VERBATIM.search(source, position)
            if closing is None:
                raise TemplateError("`raw` is never closed", _line(source, opening.start()))
            position = closing.end()


def _line(source: str, index: int) -> int:
    return source.count("\n", 0, max(index, 0)) + 1


def _explained(error: LiquidError) -> TemplateError:
    token = error.token
    line = None if token is None or token.start_index < 0 else _line(token.source, token.start_index)
    # The library's messages may quote the source on further lines.
    return TemplateError(str(error.message or type(error).__name__).split("\n", 1)[0][:200], line)
