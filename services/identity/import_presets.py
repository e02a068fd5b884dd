"""Which field each column of a file most likely is: by the exports of systems people come from, else by its name."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import InvalidError
from services.identity.import_mapping import setter


@dataclass(frozen=True, slots=True)
class Preset:
    """The contacts export of one system."""

    marks: frozenset[str]
    """Columns that it alone has together, in lower case."""
    columns: Mapping[str, str | None]
    """Column, in lower case, to target; None leaves it out. A column that is not here is taken by its name."""


PRESETS: Final[Mapping[str, Preset]] = {
    "throughline": Preset(
        frozenset({"id", "external_id", "roles_by_hand", "lifecycle_stage"}),
        {
            "id": "id",
            "other_identifiers": "identifiers:json",
            "roles": None,
            "roles_by_hand": "roles_by_hand",
            "lifecycle_stage": None,
            "created_at": None,
            "updated_at": None,
            "last_seen_at": None,
        },
    ),
    "hubspot": Preset(
        frozenset({"record id", "first name", "last name", "email"}),
        {
            "record id": "external_id:hubspot",
            "first name": "first_name",
            "last name": "last_name",
            "email": "email",
            "additional email addresses": None,
            "phone number": "phone:lenient",
            "mobile phone number": "phone:lenient",
            "preferred language": "locale:lenient",
            "time zone": "time_zone:lenient",
            "unsubscribed from all email": "opted_out.email.all",
            "opted out of all email": "opted_out.email.all",
            "last modified date": None,
            "associated company ids": None,
            "associated deal ids": None,
        },
    ),
    "mautic": Preset(
        frozenset({"firstname", "lastname", "email", "points"}),
        {
            "id": "external_id:mautic",
            "firstname": "first_name",
            "lastname": "last_name",
            "email": "email",
            "mobile": "phone:lenient",
            "phone": "phone:lenient",
            "timezone": "time_zone:lenient",
            "preferred_locale": "locale:lenient",
            "tags": "tags",
            "ip": None,
            "ipaddress": None,
            "preferred_profile_image": None,
            "dnc": "opted_out.email.all",
            "donotcontact": "opted_out.email.all",
        },
    ),
    "listmonk": Preset(
        frozenset({"uuid", "email", "name", "attributes", "status"}),
        {
            "uuid": "external_id:listmonk",
            "email": "email",
            "name": "name",
            "attributes": "attributes:json",
            "status": "opted_out.email.all",
            "created_at": "attributes.listmonk_created_at",
            "updated_at": None,
        },
    ),
    "mailchimp": Preset(
        frozenset({"email address", "member_rating", "euid"}),
        {
            "email address": "email",
            "first name": "first_name",
            "last name": "last_name",
            "phone number": "phone:lenient",
            "phone": "phone:lenient",
            "tags": "tags",
            "timezone": "time_zone:lenient",
            "euid": "external_id:mailchimp",
            "cc": "attributes.country",
            "region": "attributes.region",
            "unsub_time": "opted_out.email.all",
            "clean_time": "opted_out.email.all",
            "leid": None,
            "latitude": None,
            "longitude": None,
            "gmtoff": None,
            "dstoff": None,
            "last_changed": None,
            "confirm_ip": None,
            "optin_ip": None,
            "clean_campaign_id": None,
            "clean_campaign_title": None,
            "unsub_campaign_id": None,
            "unsub_campaign_title": None,
        },
    ),
}
"""The most telling first."""

_NAMES: Final[Mapping[str, str]] = {
    "email": "email",
    "e_mail": "email",
    "mail": "email",
    "email_address": "email",
    "phone": "phone",
    "phone_number": "phone",
    "mobile": "phone",
    "mobile_phone": "phone",
    "telephone": "phone",
    "external_id": "external_id",
    "anonymous_id": "anonymous_id",
    "first_name": "first_name",
    "firstname": "first_name",
    "given_name": "first_name",
    "last_name": "last_name",
    "lastname": "last_name",
    "surname": "last_name",
    "family_name": "last_name",
    "name": "name",
    "full_name": "name",
    "time_zone": "time_zone",
    "timezone": "time_zone",
    "locale": "locale",
    "language": "locale",
    "source": "source",
    "tags": "tags",
}


REJECTED: Final = ("rejected_line", "rejected_field", "rejected_reason", "rejected_content")
"""Columns of a file of refused rows; they say nothing about the person when it is uploaded again."""


def recognized(columns: Sequence[str]) -> str | None:
    """Return the preset that the columns are of."""
    names = {column.strip().lower() for column in columns}
    return next((key for key, preset in PRESETS.items() if preset.marks <= names), None)


def proposed(columns: Sequence[str], preset: str | None) -> dict[str, str | None]:
    """Return a target for every column: the preset's, else by its name, else an attribute of that name.

    Raises:
        InvalidError: there is no such preset.
    """
    if preset is not None and preset not in PRESETS:
        raise InvalidError.of("options.preset", f"must be one of {', '.join(PRESETS)}")
    known: Mapping[str, str | None] = PRESETS[preset].columns if preset else {}
    return {column: _target(column, known) for column in columns}


def _target(column: str, known: Mapping[str, str | None]) -> str | None:
    name = column.strip().lower()
    if name in known:
        return known[name]
    slug = re.sub(r"[^a-z0-9]+", "_", name).strip("_")
    if slug in REJECTED:
        return None
    if slug in _NAMES:
        return _NAMES[slug]
    try:
        setter(column.strip(), {})
    except InvalidError:
        pass
    else:
        return column.strip()
    if not slug:
        return None
    return f"attributes.{slug if slug[0].isalpha() else f'_{slug}'}"[:75]
