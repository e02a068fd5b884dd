"""What a form asks: its fields, where each answer goes, and what people agree to by it."""

import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from core.errors import FieldProblem, InvalidError
from services.identity.consent import Channel
from services.identity.topics import ALL

FieldType = Literal["text", "email", "phone", "number", "checkbox", "select", "textarea", "hidden"]

MAX_FIELDS: Final = 50
MAX_CHOICES: Final = 300
MAX_CONSENTS: Final = 20
OWN_FIELDS: Final = "tl_"
"""Begins the names of the fields that our pages and script add to a form: no field of a tenant's may."""

_ATTRIBUTE: Final = "attributes."
_TEXTUAL: Final = frozenset({"text", "select", "textarea", "hidden"})
_TYPES_OF: Final[dict[str, frozenset[str]]] = {
    "email": frozenset({"email"}),
    "phone": frozenset({"phone"}),
    "first_name": _TEXTUAL,
    "last_name": _TEXTUAL,
}
"""Where an answer may go, by the types of field that can fill it; an attribute takes any."""

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FormField(_Part):
    """One question of a form."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_\-]{0,62}$", examples=["email"])]
    """What the answer is called in the post and in the event."""
    label: Text
    type: FieldType
    required: bool = False
    """Of a checkbox: it must be ticked."""
    maps_to: Annotated[
        str | None, Field(pattern=r"^(email|phone|first_name|last_name|attributes\.[A-Za-z_][A-Za-z0-9_]{0,63})$")
    ] = None
    """Where the answer goes in the person's record; null keeps it in the event alone."""
    choices: Annotated[list[Text] | None, Field(min_length=1, max_length=MAX_CHOICES)] = None
    """What a select offers."""

    @property
    def attribute(self) -> str | None:
        """The attribute that the answer fills."""
        return self.maps_to.removeprefix(_ATTRIBUTE) if self.maps_to and self.maps_to.startswith(_ATTRIBUTE) else None


class FormConsent(_Part):
    """What a submission agrees to: always, or where the person ticked a box."""

    channel: Channel
    topic: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_\-]{0,62}$")]
    field: str | None = None
    """The checkbox that gives it; null where sending the form does, which its wording must then say."""
    wording: Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]
    """What the person reads; kept with the consent."""


def check(fields: Sequence[FormField], consent: Sequence[FormConsent], redirect_url: str | None) -> None:
    """Check the parts of a form against one another.

    Raises:
        InvalidError: naming every part at fault, by its place.
    """
    problems = _in_fields(fields) + _in_consent(fields, consent)
    if redirect_url is not None and (reason := _problem_with_url(redirect_url)) is not None:
        problems.append(FieldProblem("redirect_url", reason))
    if problems:
        raise InvalidError("; ".join(f"{p.field}: {p.reason}" for p in problems[:3]), errors=problems)


def _in_fields(fields: Sequence[FormField]) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    names: set[str] = set()
    targets: set[str] = set()
    for number, field in enumerate(fields):
        place = f"fields.{number}"
        if field.name in names:
            problems.append(FieldProblem(f"{place}.name", "is the name of a field before it"))
        elif field.name.startswith(OWN_FIELDS):
            problems.append(FieldProblem(f"{place}.name", f"must not begin with {OWN_FIELDS}"))
        names.add(field.name)
        if (field.type == "select") != (field.choices is not None):
            reason = "are needed for a select" if field.type == "select" else "are for a select alone"
            problems.append(FieldProblem(f"{place}.choices", reason))
        elif field.choices is not None and len(set(field.choices)) < len(field.choices):
            problems.append(FieldProblem(f"{place}.choices", "name one twice"))
        if field.maps_to is None:
            continue
        if field.maps_to in targets:
            problems.append(FieldProblem(f"{place}.maps_to", "is where the answer of a field before it goes"))
        targets.add(field.maps_to)
        if field.type not in _TYPES_OF.get(field.maps_to, {field.type}):
            wanted = " or ".join(sorted(_TYPES_OF[field.maps_to]))
            problems.append(FieldProblem(f"{place}.maps_to", f"{field.maps_to} needs a field of type {wanted}"))
    if not targets & {"email", "phone"}:
        problems.append(FieldProblem("fields", "must have one that maps to email or phone: who else would the lead be"))
    return problems


def _in_consent(fields: Sequence[FormField], consent: Sequence[FormConsent]) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    boxes = {field.name for field in fields if field.type == "checkbox"}
    seen: set[tuple[str, str]] = set()
    for number, item in enumerate(consent):
        if item.field is not None and item.field not in boxes:
            problems.append(FieldProblem(f"consent.{number}.field", "is not the name of a checkbox of this form"))
        if item.topic == ALL:
            problems.append(FieldProblem(f"consent.{number}.topic", f"{ALL} is no topic to opt in to"))
        if (item.channel, item.topic) in seen:
            problems.append(FieldProblem(f"consent.{number}", "names a channel and topic that an item before it has"))
        seen.add((item.channel, item.topic))
    return problems


_URL: Final = re.compile(r"https?://[^\s\\\"<>]+", re.ASCII)


def _problem_with_url(url: str) -> str | None:
    """Say why nobody should be led there; None where it is an ordinary address of the web."""
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.username is None and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or _URL.fullmatch(url) is None:
        return "must be an address beginning with https:// or http://, in ASCII"
    return None
