"""What people send by a form: read by the form's fields, kept as an event, and put into the person's record."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from contracts.events import FORM_SUBMITTED
from core.actor import Actor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError
from services.events.publish import PLATFORM_KEYS, NewEvent, publish
from services.identity import consent, normalize, visitors
from services.identity.consent import Choice
from services.identity.form_definition import FormField
from services.identity.forms import Definition, PublicForm
from services.identity.people import PersonChange
from services.identity.visitors import Visitor

MAX_LINE: Final = 1_000
MAX_LINES: Final = 5_000
"""Characters of an answer, of one line and of several."""
MAX_URL: Final = 2_000

_NUMBER: Final = re.compile(r"[+-]?\d{1,15}(\.\d{1,10})?", re.ASCII)
_NO: Final = frozenset({"", "0", "false", "off", "no"})

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:tenant || :key, 7303))")
_SENT: Final = text("SELECT person_id FROM event WHERE tenant_id = :tenant AND idempotency_key = :key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """How a submission came: what is kept as evidence of the consent it gives."""

    submission_id: UUID | None = None
    """The same for a form that is sent twice by a double click."""
    anonymous_id: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    url: str | None = None
    """Of the page with the form."""
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission."""

    person_id: UUID | None
    """None where the form had been sent before, by somebody erased since."""
    anonymous_id: str | None
    """What the browser is to be called from now on; None where it gave no id, or the form had been sent before."""


async def submit(
    session: TenantSession, form: PublicForm, answers: Mapping[str, str | float | bool | None], context: Context
) -> Submitted:
    """Take in a submission, once for each submission id: person, consent and event in one transaction.

    Args:
        session: of the form's tenant.
        form: the form.
        answers: by the fields' names, as they came; others are left out.
        context: how it came.

    Raises:
        InvalidError: naming each field whose answer is not acceptable.
    """
    read = read_answers(form.definition, answers)
    identifiers = {
        field.maps_to: str(read[field.name])
        for field in form.definition.fields
        if field.maps_to in {"email", "phone"} and field.name in read
    }
    if context.anonymous_id is not None:
        identifiers["anonymous_id"] = context.anonymous_id
    if not identifiers:
        asked = next(field for field in form.definition.fields if field.maps_to in {"email", "phone"})
        raise InvalidError.of(asked.name, "is needed")
    key = None if context.submission_id is None else f"form:{form.form_id}:{context.submission_id}"
    if key is not None:
        await session.execute(_LOCK, {"tenant": str(session.tenant_id), "key": key})
        before = await session.execute(_SENT, {"tenant": session.tenant_id, "key": PLATFORM_KEYS + key})
        if (sent := before.first()) is not None:
            return Submitted(sent.person_id, None)
    actor = Actor(f"form:{form.form_id}", context.request_id)
    visitor = await visitors.recognise(session, _change(form, read, identifiers), by=actor)
    await consent.choose(session, visitor.person.id, _consent(form, read, visitor, context), by=actor)
    properties = {"form": form.definition.key, "form_id": str(form.form_id), "fields": read}
    if context.url is not None:
        properties["url"] = context.url
    await publish(session, [NewEvent(FORM_SUBMITTED, visitor.person.id, properties=properties, idempotency_key=key)])
    return Submitted(visitor.person.id, visitor.anonymous_id)


def _change(form: PublicForm, read: Mapping[str, Any], identifiers: Mapping[str, str]) -> PersonChange:
    fields: dict[str, str | None] = {"source": f"form:{form.definition.key}"}
    attributes: dict[str, Any] = {}
    for field in form.definition.fields:
        if field.name not in read:
            continue
        if field.attribute is not None:
            attributes[field.attribute] = read[field.name]
        elif field.maps_to in {"first_name", "last_name"}:
            fields[field.maps_to] = read[field.name]
    return PersonChange(identifiers=identifiers, fields=fields, attributes=attributes)


_ADDRESSES: Final = {"email": "email", "sms": "phone"}
"""Channel to the identifier it goes to."""


def _consent(form: PublicForm, read: Mapping[str, Any], visitor: Visitor, context: Context) -> list[Choice]:
    """Return what was agreed to: for an address that the form was not given, nobody agreed to anything."""
    shown = {
        "form_id": str(form.form_id),
        "ip": context.ip,
        "user_agent": context.user_agent,
        "url": context.url,
    }
    evidence = {name: value for name, value in shown.items() if value}
    return [
        Choice(
            item.channel,
            item.topic,
            "opted_in",
            source=f"form:{form.definition.key}",
            wording=item.wording,
            evidence=evidence,
            proof="claimed",
        )
        for item in form.definition.consent
        if (item.field is None or read.get(item.field) is True)
        and (item.channel not in _ADDRESSES or _ADDRESSES[item.channel] in visitor.named_by)
    ]


def read_answers(definition: Definition, answers: Mapping[str, str | float | bool | None]) -> dict[str, Any]:
    """Return the answers by field, each of its field's type; those not given are absent, a box not ticked is false.

    Raises:
        InvalidError: naming each field whose answer is not acceptable.
    """
    read: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    for field in definition.fields:
        try:
            value = _read(field, answers.get(field.name))
        except InvalidError as error:
            problems.extend(error.errors)
            continue
        if value is not None:
            read[field.name] = value
    if problems:
        raise InvalidError("; ".join(f"{p.field}: {p.reason}" for p in problems[:3]), errors=problems)
    return read


def _read(field: FormField, given: str | float | bool | None) -> str | float | bool | None:  # noqa: FBT001 - an answer
    if field.type == "checkbox":
        ticked = given is True or (isinstance(given, str) and given.strip().lower() not in _NO)
        if field.required and not ticked:
            raise InvalidError.of(field.name, "must be ticked")
        return ticked
    if field.type == "number" and isinstance(given, int | float) and not isinstance(given, bool):
        return _finite(field, given)
    if given is not None and not isinstance(given, str):
        raise InvalidError.of(field.name, "must be a text")
    answer = (given or "").strip()
    if not answer:
        if field.required:
            raise InvalidError.of(field.name, "is needed")
        return None
    return _READERS.get(field.type, _line)(field, answer)


def _line(field: FormField, answer: str) -> str:
    if len(answer) > MAX_LINE:
        raise InvalidError.of(field.name, f"must have at most {MAX_LINE} characters")
    if not answer.isprintable():
        raise InvalidError.of(field.name, "must be one line, without control characters")
    if field.maps_to in {"first_name", "last_name"}:
        normalize.line(answer, field.name)
    return answer


def _lines(field: FormField, answer: str) -> str:
    answer = answer.replace("\r\n", "\n").replace("\r", "\n")
    if len(answer) > MAX_LINES:
        raise InvalidError.of(field.name, f"must have at most {MAX_LINES} characters")
    if not answer.replace("\n", "").replace("\t", "").isprintable():
        raise InvalidError.of(field.name, "must not contain control characters")
    if field.maps_to in {"first_name", "last_name"}:
        normalize.line(answer, field.name)
    return answer


def _number(field: FormField, answer: str) -> float:
    answer = answer.replace(",", ".")
    if _NUMBER.fullmatch(answer) is None:
        raise InvalidError.of(field.name, "must be a number")
    return _finite(field, float(answer) if "." in answer else int(answer))


def _finite(field: FormField, number: float) -> float:
    if not abs(number) < 1e15:  # noqa: PLR2004 - what every reader of JSON keeps exactly
        raise InvalidError.of(field.name, "must be a number of at most 15 digits")
    return number


def _choice(field: FormField, answer: str) -> str:
    if answer not in (field.choices or ()):
        raise InvalidError.of(field.name, "must be one of the choices")
    return answer


def _email(field: FormField, answer: str) -> str:
    return normalize.email(answer, field.name)


def _phone(field: FormField, answer: str) -> str:
    return normalize.phone(answer, field.name)


_READERS: Final[Mapping[str, Callable[[FormField, str], str | float]]] = {
    "email": _email,
    "phone": _phone,
    "number": _number,
    "select": _choice,
    "textarea": _lines,
}
