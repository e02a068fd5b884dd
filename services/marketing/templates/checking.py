"""What may be saved as a template, and what it reads."""

from email.utils import parseaddr
from typing import Final

from core.errors import FieldProblem, InvalidError
from services.identity import normalize
from services.identity.topics import ALL
from services.marketing import rendering, templating
from services.marketing.templates.texts import Text
from services.marketing.templating import TemplateError, Variable

_RENDERED_ITSELF: Final = frozenset(("tenant", "topic", rendering.CONFIRM_URL, *rendering.LINK_VARIABLES))
"""Roots that rendering always has: no journey need provide them."""


def check(text: Text, *, key: str) -> list[str]:
    """Refuse what could not be sent as the template `key`; return the fields of person and entry that it reads.

    Raises:
        InvalidError: naming every field at fault.
    """
    problems: list[FieldProblem] = []
    read: set[str] = set()
    confirming = key == rendering.CONFIRMATION
    for name, source, html in (
        ("subject", text.subject, False),
        ("body", text.body, True),
        ("text_body", text.text_body, False),
    ):
        if source is None:
            continue
        found, wrong = _checked(source, html=html, confirming=confirming)
        if confirming and not wrong and name != "subject" and rendering.CONFIRM_URL not in map(str, found):
            wrong = [f"must link to {{{{ {rendering.CONFIRM_URL} }}}}"]
        problems += [FieldProblem(name, reason) for reason in wrong]
        read.update(path for variable in found for path in _read(variable))
    if text.topic == ALL:
        problems.append(FieldProblem("topic", f"{ALL} stands for every topic"))
    if confirming and text.purpose != "transactional":
        problems.append(FieldProblem("purpose", "must be transactional: who is asked has not opted in yet"))
    if text.from_address is not None:
        problems += _sender_problems(text.from_address)
    if problems:
        raise InvalidError("; ".join(f"{p.field}: {p.reason}" for p in problems), errors=problems)
    return sorted(read)


def _checked(source: str, *, html: bool, confirming: bool) -> tuple[list[Variable], list[str]]:
    """Return what a source reads, and what is wrong with it."""
    if not source.strip():
        return [], ["is empty"]
    try:
        parsed = templating.parse(source, html=html)
    except TemplateError as error:
        return [], [str(error)]
    wrong = [f"line {line}: there is no filter {name}" for name, line in templating.unknown_filters(source, parsed)]
    found = templating.variables(source, parsed)
    for variable in found:
        problem = rendering.problem_with(variable, confirming=confirming)
        if problem is not None:
            wrong.append(f"line {variable.line}: {problem}")
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
