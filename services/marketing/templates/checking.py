"""What may be saved as a template, and what it reads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Final

from core.errors import FieldProblem, InvalidError
from services.identity import normalize
from services.identity.topics import ALL
from services.marketing import rendering, templating
from services.marketing.templates import expanding, html, locales
from services.marketing.templates.expanding import Expanded
from services.marketing.templates.texts import FIELDS, MAX_BODY, NAMED, Text, Wording
from services.marketing.templating import TemplateError, Variable

MAX_LOCALES: Final = 50

_LOCALE: Final = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8}){0,4}")
_RENDERED_ITSELF: Final = frozenset(("tenant", "topic", rendering.CONFIRM_URL, *rendering.LINK_VARIABLES))
"""Roots that rendering always has: no journey need provide them."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A text that may be saved: what is sent, beside what was written."""

    variables: list[str]
    """The fields of person and entry that it reads."""
    body: str
    """What is sent."""
    source: str | None
    """What was written, where something else is sent."""
    locales: dict[str, dict[str, str]]
    """As the table has them."""
    partials: dict[str, str]
    """Those that are in its bodies, as they are written."""


def check(text: Text, *, key: str, channel: str, partials: Mapping[str, str]) -> Checked:
    """Refuse what could not be sent as the template `key` of `channel`, whose bodies may render `partials`.

    Raises:
        InvalidError: naming every field at fault.
    """
    check = _Check(text, key, channel, partials)
    problems = [*_fields(text, channel), *check.problems]
    if text.topic == ALL:
        problems.append(FieldProblem("topic", f"{ALL} stands for every topic"))
    if key == rendering.CONFIRMATION and channel == "email" and text.purpose != "transactional":
        problems.append(FieldProblem("purpose", "must be transactional: who is asked has not opted in yet"))
    if text.from_address is not None:
        problems += _sender_problems(text.from_address)
    if problems:
        raise InvalidError("; ".join(f"{p.field}: {p.reason}" for p in problems), errors=problems)
    return check.made()


def check_partial(body: str, *, key: str, channel: str, partials: Mapping[str, str]) -> None:
    """Refuse a partial that no template could render; what it gives in MJML is looked at where it is rendered.

    Raises:
        InvalidError: naming the body.
    """
    try:
        expanded = expanding.expand(body, partials, within=key)
    except TemplateError as error:
        raise InvalidError.of("body", str(error)) from error
    _, wrong = _checked(expanded, html=channel == "email", confirming=False)
    longest = MAX_BODY.get(channel)
    if longest is not None and len(expanded.text) > longest:
        wrong.append(f"is longer than {longest} characters")
    if wrong:
        problems = [FieldProblem("body", reason) for reason in wrong]
        raise InvalidError("; ".join(f"body: {reason}" for reason in wrong), errors=problems)


class _Check:
    """What becomes of each source of a text, and what is wrong with it."""

    def __init__(self, text: Text, key: str, channel: str, partials: Mapping[str, str]) -> None:
        self.problems: list[FieldProblem] = []
        self._partials = partials
        self._used: dict[str, str] = {}
        self._channel = channel
        self._confirming = key == rendering.CONFIRMATION and channel == "email"
        self._format: html.Format = text.format or "html"
        self._read: set[str] = set()
        self._source = text.body
        self._body = self._wording(Wording(text.subject, text.body, text.text_body), "").get("body", "")
        for name in ("link", "image"):
            self._one(name, getattr(text, name), html=False, links=False)
        self._locales: dict[str, dict[str, str]] = {}
        known: set[str] = set()
        for locale, wording in text.locales.items():
            place = f"locales.{locale}."
            if not _LOCALE.fullmatch(locale):
                self.problems.append(FieldProblem(place[:-1], "is not a locale, as de or de-AT"))
            elif locales.canonical(locale) in known:
                self.problems.append(FieldProblem(place[:-1], "stands twice"))
            known.add(locales.canonical(locale))
            if wording == Wording():
                self.problems.append(FieldProblem(place[:-1], "says nothing"))
            self._locales[locale] = self._wording(wording, place)
        if len(text.locales) > MAX_LOCALES:
            self.problems.append(FieldProblem("locales", f"are more than {MAX_LOCALES}"))

    def made(self) -> Checked:
        source = self._source if self._body != self._source else None
        return Checked(sorted(self._read), self._body, source, self._locales, self._used)

    def _wording(self, wording: Wording, place: str) -> dict[str, str]:
        """Return what is kept of a wording."""
        mail = self._channel == "email"
        kept: dict[str, str] = {}
        named = NAMED.get(self._channel, {})
        for name, source in (("subject", wording.subject), ("text_body", wording.text_body)):
            if source is not None:
                self._one(place + named.get(name, name), source, html=False, links=name == "text_body")
                kept[name] = source
        if wording.body is None:
            return kept
        field = f"{place}body"
        try:
            expanded = expanding.expand(wording.body, self._partials)
        except TemplateError as error:
            self.problems.append(FieldProblem(field, str(error)))
            return kept
        if not self._one(field, expanded, html=mail, links=mail):
            return kept
        self._used.update(expanded.partials)
        kept["body"] = self._sent(field, expanded)
        if place and kept["body"] != wording.body:
            kept["source"] = wording.body
        return kept

    def _sent(self, field: str, expanded: Expanded) -> str:
        """Return what is sent of a body."""
        if self._channel != "email":
            longest = MAX_BODY[self._channel]
            if len(expanded.text) > longest:
                self.problems.append(FieldProblem(field, f"is longer than {longest} characters"))
            return expanded.text
        try:
            made = html.compiled(expanded.text, self._format)
            templating.parse(made, html=True)
        except TemplateError as error:
            self.problems.append(FieldProblem(field, expanded.said(error)))
            return expanded.text
        return made

    def _one(self, name: str, source: str | Expanded | None, *, html: bool, links: bool) -> bool:
        """Take one source; return whether it parses and reads only what there is."""
        if source is None:
            return True
        if isinstance(source, str):
            line = expanding.first_line(source)
            if line is not None:
                self.problems.append(FieldProblem(name, f"line {line}: bodies alone render partials"))
                return False
            source = Expanded(source)
        found, wrong = _checked(source, html=html, confirming=self._confirming)
        if self._confirming and not wrong and links and rendering.CONFIRM_URL not in map(str, found):
            wrong = [f"must link to {{{{ {rendering.CONFIRM_URL} }}}}"]
        self.problems += [FieldProblem(name, reason) for reason in wrong]
        self._read.update(path for variable in found for path in _read(variable))
        return not wrong


def _fields(text: Text, channel: str) -> list[FieldProblem]:
    """Refuse what the channel does not have, and miss what it needs."""
    has, named = FIELDS[channel], NAMED.get(channel, {})
    given = {
        "subject": text.subject,
        "text_body": text.text_body,
        "from": text.from_address,
        "format": text.format,
        "link": text.link,
        "image": text.image,
    }
    problems = [
        FieldProblem(name, f"{channel} has no {name}")
        for name, value in given.items()
        if value is not None and name not in has
    ]
    for locale, wording in text.locales.items():
        problems += [
            FieldProblem(f"locales.{locale}.{name}", f"{channel} has no {name}")
            for name in ("subject", "text_body")
            if getattr(wording, name) is not None and name not in has
        ]
    if "subject" in has and text.subject is None:
        problems.append(FieldProblem(named.get("subject", "subject"), "is missing"))
    return problems


def _checked(source: Expanded, *, html: bool, confirming: bool) -> tuple[list[Variable], list[str]]:
    """Return what a source reads, and what is wrong with it."""
    text = source.text
    if not text.strip():
        return [], ["is empty"]
    try:
        parsed = templating.parse(text, html=html)
    except TemplateError as error:
        return [], [source.said(error)]
    wrong = [
        f"line {source.line(line)}: there is no filter {name}"
        for name, line in templating.unknown_filters(text, parsed)
    ]
    found = templating.variables(text, parsed)
    for variable in found:
        problem = rendering.problem_with(variable, confirming=confirming)
        if problem is not None:
            wrong.append(f"line {source.line(variable.line)}: {problem}")
    return found, wrong


def _read(variable: Variable) -> list[str]:
    """Return the path as journeys check it: up to what is known only when rendering, and only if it names a field."""
    path = list(variable.path)
    if None in path:
        path = path[: path.index(None)]
    shortest = 3 if path[:2] == ["person", "attributes"] else 2
    if path[0] in _RENDERED_ITSELF or len(path) < shortest:
        return []
    return [".".join(str(segment) for segment in path)]


def _sender_problems(text: str) -> list[FieldProblem]:
    name, address = parseaddr(text) if text.isprintable() else ("", "")
    if not address or not text.endswith((address, f"<{address}>")):
        return [FieldProblem("from", "is not an address, as in Name <name@example.com>")]
    try:
        normalize.email(address, "from")
    except InvalidError as error:
        return list(error.errors)
    return [] if len(name) <= normalize.MAX_TEXT else [FieldProblem("from", "has too long a name")]
