"""From what an author writes to the HTML that is sent, when a version is saved: MJML is compiled, styles inlined.

Neither compiler knows Liquid, so each piece of it is replaced by a mark that both leave alone, and put back after. A
piece that did not come through whole is an error with its line, never a mail that lacks it.
"""

import re
from collections import Counter
from typing import Final, Literal

import css_inline
from mjml import mjml2html

from services.marketing.templating import TemplateError

Format = Literal["html", "mjml"]

MAX_DEPTH: Final = 100
"""Elements within each other: the compilers recurse, and would end the process at some thousands."""
MAX_HTML: Final = 1_000_000
MAX_IMAGES: Final = 100
"""Of carousels, which grow with their square."""
MAX_WORK: Final = 5_000_000
"""Of elements times characters that each may get from the head, or times rules of styles."""

_LIQUID: Final = re.compile(r"\{%-?\s*raw\b.*?\{%-?\s*endraw\s*-?%\}|\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_TOKEN: Final = re.compile(
    r"<!--.*?(?:-->|\Z)|<(?P<raw>style|script|title|textarea|mj-style|mj-title|mj-preview)\b[^<>]*>.*?(?:</(?P=raw)\s*>|\Z)"
    r"|<(?P<close>/?)(?P<name>[a-zA-Z][\w-]*)(?P<rest>(?:\"[^\"]*\"|'[^']*'|[^<>\"'])*)>",
    re.DOTALL | re.IGNORECASE,
)
_MARK: Final = re.compile(r"<!--lq(\d+)x-->|lq(\d+)x")
_OWN_MARK: Final = re.compile(r"lq\d+x", re.IGNORECASE)
_NO_TEXT: Final = frozenset(
    ("table", "tbody", "thead", "tfoot", "tr", "colgroup", "mj-table", "mj-column", "mj-hero", "mj-group")
)
"""In these there is no text: it would be moved before the table, and so out of the Liquid around it."""
_VOID: Final = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
_ENDS_BY_ITSELF: Final = frozenset(("p", "li", "td", "th", "tr", "tbody", "thead", "option", "dd", "dt"))
_MJML: Final = frozenset(
    f"mj-{name}"
    for name in (
        "accordion", "accordion-element", "accordion-text", "accordion-title", "all", "attributes", "body",
        "breakpoint", "button", "carousel", "carousel-image", "class", "column", "divider", "font", "group",
        "head", "hero", "image", "navbar", "navbar-link", "preview", "raw", "section", "social",
        "social-element", "spacer", "style", "table", "text", "title", "wrapper",
    )
)  # fmt: skip
_INLINE_STYLE: Final = re.compile(r"<mj-style\b[^<>]*\binline\s*=\s*[\"']inline[\"'][^<>]*>", re.IGNORECASE)
_INLINE_STYLE_END: Final = re.compile(r"</mj-style\s*>", re.IGNORECASE)
_HEAD: Final = re.compile(r"<mj-attributes\b", re.IGNORECASE)
_HEAD_END: Final = re.compile(r"</mj-attributes\s*>", re.IGNORECASE)
_STYLE: Final = re.compile(r"<style\b[^<>]*>", re.IGNORECASE)
_STYLE_END: Final = re.compile(r"</style\s*>", re.IGNORECASE)
_QUOTED: Final = re.compile(r"""=\s*(?:"[^"]*"|'[^']*')""")
_IGNORED: Final = 'data-css-inline="ignore"'


def compiled(source: str, written_in: Format) -> str:
    """Return the HTML that is sent, with its Liquid as it was.

    Raises:
        TemplateError: it is no MJML, it is too much, or Liquid stands where it would be lost; with the line.
    """
    if written_in == "html" and not _STYLE.search(source):
        return source
    _check_elements(source, mjml=written_in == "mjml")
    if _OWN_MARK.search(source):
        raise TemplateError("contains lq…x with a number between, which stands for Liquid while it is compiled")
    marked, pieces = _marked(source)
    made = _from_mjml(marked) if written_in == "mjml" else _inlined(marked)
    return _restored(source, made, pieces)


def _check_elements(source: str, *, mjml: bool) -> None:
    """Refuse what the compilers would crash on, be silent about, or take long over."""
    plain = _LIQUID.sub(_standing_for, source)
    no_text = _balanced(plain)
    stack: list[tuple[str, int]] = []
    count = depth = position = 0
    for token in _TOKEN.finditer(plain):
        name = (token["name"] or "").lower()
        if stack and stack[-1][0] in no_text:
            _check_no_text(plain, position, token.start(), stack[-1][0])
        position = token.end()
        if not name or name in _VOID or token["rest"].endswith("/"):
            count += 1
        elif not token["close"]:
            count += 1
            stack.append((name, _line(plain, token.start())))
            depth += name not in _ENDS_BY_ITSELF
        else:
            left, matched = _left(stack, name)
            depth -= left
            if not matched and mjml and name.startswith("mj"):
                where = f"{stack[-1][0]} of line {stack[-1][1]}" if stack else "nothing"
                raise TemplateError(f"</{name}> closes {where}", _line(plain, token.start()))
        if mjml and name.startswith("mj-"):
            _check_known(name, _line(plain, token.start()))
        if depth > MAX_DEPTH:
            raise TemplateError(f"more than {MAX_DEPTH} elements within each other", _line(plain, token.start()))
    left = [(name, line) for name, line in stack if name.startswith("mj")]
    if mjml and left:
        raise TemplateError(f"{left[-1][0]} is never closed", left[-1][1])
    _check_work(plain, count)


def _left(stack: list[tuple[str, int]], name: str) -> tuple[int, bool]:
    """Leave the elements that an end of `name` ends: return how many levels, and whether it is the end of one."""
    levels = 0
    while stack and stack[-1][0] != name and not stack[-1][0].startswith("mj"):
        levels += stack.pop()[0] not in _ENDS_BY_ITSELF
    if not stack or stack[-1][0] != name:
        return levels, False
    levels += stack.pop()[0] not in _ENDS_BY_ITSELF
    return levels, True


def _standing_for(piece: re.Match[str]) -> str:
    """Return what stands for a piece of Liquid where elements are looked at: a letter for text, nothing for a tag."""
    text = piece[0]
    letter = "x" if text.startswith("{{") or "endraw" in text else ""
    return letter + "\n" * text.count("\n")


def _balanced(plain: str) -> frozenset[str]:
    """Return those of `_NO_TEXT` that open as often as they close: others Liquid may choose between."""
    opened = Counter(
        token["name"].lower() + token["close"]
        for token in _TOKEN.finditer(plain)
        if token["name"] and not token["rest"].endswith("/")
    )
    return frozenset(name for name in _NO_TEXT if opened[name] == opened[f"{name}/"])


def _check_no_text(plain: str, start: int, end: int, name: str) -> None:
    text = plain[start:end]
    if text.strip():
        line = _line(plain, start + len(text) - len(text.lstrip()))
        raise TemplateError(f"text directly within <{name}> would be moved out of it", line)


def _check_work(plain: str, count: int) -> None:
    """Refuse what would become far more than it is: each element takes what the head says of its kind."""
    heads = sum(end - start for _, start, end, _ in _between(plain, _HEAD, _HEAD_END))
    styles = (*_between(plain, _STYLE, _STYLE_END), *_between(plain, _INLINE_STYLE, _INLINE_STYLE_END))
    rules = sum(plain.count("{", start, end) for _, start, end, _ in styles)
    images = plain.lower().count("<mj-carousel-image")
    if count * max(heads, rules) > MAX_WORK or images > MAX_IMAGES:
        raise TemplateError("has too many elements for so many styles")


def _check_known(name: str, line: int) -> None:
    if name == "mj-include":
        raise TemplateError("mj-include is not supported: a template loads no files", line)
    if name not in _MJML:
        raise TemplateError(f"there is no element {name}", line)


def _marked(source: str) -> tuple[str, list[tuple[str, int, bool]]]:
    """Return the source with marks, and the pieces they stand for: text, place, whether it may stand within a tag."""
    blank = _LIQUID.sub(lambda piece: "x" * len(piece.group()), source)
    spans = [token.span() for token in _TOKEN.finditer(blank)]
    pieces: list[tuple[str, int, bool]] = []
    parts: list[str] = []
    position = span = 0
    for piece in _LIQUID.finditer(source):
        while span < len(spans) and spans[span][1] <= piece.start():
            span += 1
        within = span < len(spans) and spans[span][0] < piece.start()
        mark = f"lq{len(pieces)}x"
        parts += [source[position : piece.start()], mark if within else f"<!--{mark}-->"]
        if within:
            _check_place(source, blank[slice(*spans[span])], piece.start(), piece.start() - spans[span][0])
        pieces.append((piece.group(), piece.start(), within))
        position = piece.end()
    parts.append(source[position:])
    return "".join(parts), pieces


def _check_place(source: str, tag: str, at: int, offset: int) -> None:
    """Refuse Liquid between the attributes of a tag: the compilers sort them, and keep one of each name."""
    element = _TOKEN.fullmatch(tag)
    if element is None or not element["name"]:
        return
    if not any(start <= offset < end for start, end in (quoted.span() for quoted in _QUOTED.finditer(tag))):
        raise TemplateError("Liquid within a tag must stand in a value in quotes", _line(source, at))


def _between(source: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> list[tuple[int, int, int, int]]:
    """Return where each of these elements begins, where its content begins and ends, and where it ends; linearly."""
    found: list[tuple[int, int, int, int]] = []
    position = 0
    while opened := opening.search(source, position):
        closed = closing.search(source, opened.end())
        if closed is None:
            break
        found.append((opened.start(), opened.end(), closed.start(), closed.end()))
        position = closed.end()
    return found


def _from_mjml(marked: str) -> str:
    styles: list[str] = []
    rest: list[str] = []
    position = 0
    for begin, start, end, after in _between(marked, _INLINE_STYLE, _INLINE_STYLE_END):
        styles.append(marked[start:end])
        rest.append(marked[position:begin])
        position = after
    rest.append(marked[position:])
    try:
        made = mjml2html("".join(rest), fonts={})
    except ValueError as error:
        raise TemplateError(f"is not MJML: {error}"[:200]) from error
    if not styles:
        return made
    # what MJML itself says in <style> stays there: in each element it would double the mail
    kept = made.replace("<style", f"<style {_IGNORED}").replace(
        "</head>", f"<style>{' '.join(styles)}</style></head>", 1
    )
    return _inlined(kept).replace(f" {_IGNORED}", "")


def _inlined(made: str) -> str:
    try:
        return css_inline.CSSInliner(keep_link_tags=True, keep_at_rules=True, load_remote_stylesheets=False).inline(
            made
        )
    except ValueError as error:
        raise TemplateError(f"its styles cannot be put into elements: {error}"[:200]) from error


def _restored(source: str, made: str, pieces: list[tuple[str, int, bool]]) -> str:
    """Return what was made, with the Liquid back in its place."""
    if len(made) > MAX_HTML:
        raise TemplateError(f"gives more than {MAX_HTML} characters of HTML")
    found = [int(mark[1] or mark[2]) for mark in _MARK.finditer(made)]
    lost = sorted(set(range(len(pieces))) - set(found))
    if lost:
        piece, place, within = pieces[lost[0]]
        why = "in a value that is computed with, or a style" if within else "where nothing is kept"
        raise TemplateError(f"{piece[:40]} would be lost: it stands {why}", _line(source, place))
    text = _MARK.sub(lambda mark: pieces[int(mark[1] or mark[2])][0], made)
    if len(text) > MAX_HTML:
        raise TemplateError(f"gives more than {MAX_HTML} characters of HTML")
    return text


def _line(source: str, index: int) -> int:
    return source.count("\n", 0, index) + 1
