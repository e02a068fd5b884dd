"""The one spelling of each identifier and field: two texts that mean the same address must be the same key.

Every function is idempotent and raises `InvalidError` naming `field`, the path as the caller wrote it.
"""

import re
import unicodedata
import zoneinfo
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from core.errors import InvalidError

MAX_LENGTH: Final = 255
"""Longest external or anonymous id, in characters."""

MAX_TEXT: Final = 200
"""Longest name or source, in characters."""

MAX_LOCALE: Final = 35
"""Length that RFC 5646, section 4.4.1, expects every implementation to hold."""

# RFC 5646: language, script, region, variants, and what a user's own extensions add.
_LOCALE: Final = re.compile(
    r"(?P<language>[a-z]{2,3})(-(?P<script>[a-z]{4}))?(-(?P<region>[a-z]{2}|[0-9]{3}))?(?P<rest>(-[a-z0-9]{1,8})*)",
    re.ASCII | re.IGNORECASE,
)
# A part of what RFC 5321 allows, which nearly all addresses keep to: letters, digits and few signs, all of them ASCII.
_PLAIN_EMAIL: Final = re.compile(r"([a-z0-9_+\-]+(?:\.[a-z0-9_+\-]+)*)@([a-z0-9\-]+(?:\.[a-z0-9\-]+)+)", re.ASCII)
_LONGEST_EMAIL: Final = 254
_LONGEST_LOCAL: Final = 64
_PHONE: Final = re.compile(r"\+[0-9][0-9 ()./\-]*", re.ASCII)


def email(text: str, field: str = "email") -> str:
    """Return the whole address in lower case, NFC, its domain in Unicode; syntax is checked, deliverability is not.

    RFC 5321 lets hosts tell `Ann@` from `ann@`, none in use does, and people write both: so one person. Addresses
    under `.test` (RFC 2606) are accepted: they reach nobody, and everybody tries a platform out with them.
    """
    text = text.strip()
    try:
        return _plain_email(text) or _email(text)
    except EmailNotValidError as problem:
        raise InvalidError.of(field, f"is not an email address: {problem}") from problem


def _plain_email(text: str) -> str | None:
    """Return what `_email` would, for an address that is easy to judge; None for all others.

    A million rows of an import spend a tenth of the time here: of their domains there are few, and each is parsed once.
    """
    if not text.isascii():  # lower case of some other letters is ASCII
        return None
    text = text.lower()
    found = _PLAIN_EMAIL.fullmatch(text)
    if found is None or len(text) > _LONGEST_EMAIL or found.end(1) > _LONGEST_LOCAL:
        return None
    return text if _known_domain(found[2]) else None


@lru_cache(maxsize=16_384)
def _known_domain(domain: str) -> bool:
    """Whether addresses there are valid, with the domain spelt as it is here."""
    try:
        return _parsed(f"a@{domain}") == f"a@{domain}"
    except EmailNotValidError:
        return False


@lru_cache(maxsize=4096)  # the same people come back in a burst of events, and parsing costs more than their insert
def _email(text: str) -> str:
    normal = _parsed(text)
    lower = unicodedata.normalize("NFC", normal.lower())
    # Lower case can be longer than what was checked (the dotted capital I): what we keep must itself be an address.
    return lower if lower == normal else _parsed(lower)


def _parsed(text: str) -> str:
    return validate_email(text, check_deliverability=False, test_environment=True, strict=True).normalized


def phone(text: str, field: str = "phone") -> str:
    """Return the number in E.164 (`+4915112345678`); only the international form is unambiguous, so only it is taken.

    The length must be possible in its country. Whether the range is in use is not asked: ranges open faster than
    tables of them are updated.
    """
    text = text.strip()
    if _PHONE.fullmatch(text) is None:
        raise InvalidError.of(field, "must be in international form, as in +49 30 1234567, without an extension")
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException as problem:
        raise InvalidError.of(field, "is not a phone number: no such country code, or far too long") from problem
    reason = phonenumbers.is_possible_number_with_reason(number)
    if reason != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise InvalidError.of(field, "is not a phone number: its length is not in use in that country")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def external_id(text: str, field: str = "external_id") -> str:
    """Return the id another system knows the person by: trimmed, otherwise as given, 1 to 255 characters."""
    return _opaque(text, field)


def anonymous_id(text: str, field: str = "anonymous_id") -> str:
    """Return the id of a browser or device: trimmed, otherwise as given, 1 to 255 characters."""
    return _opaque(text, field)


def domain(text: str, field: str = "domain") -> str:
    """Return the host name in lower case, Unicode, without `www.`; syntax is checked, existence is not."""
    host = text.strip().lower().rstrip(".").removeprefix("www.")
    try:
        return _email(f"host@{host}").removeprefix("host@")
    except EmailNotValidError as problem:
        raise InvalidError.of(field, "is not a host name, as shop.example is") from problem


def line(text: str, field: str) -> str | None:
    """Return a name or another single line of text, trimmed; None where nothing is left of it."""
    text = text.strip()
    if len(text) > MAX_TEXT:
        raise InvalidError.of(field, f"must have at most {MAX_TEXT} characters")
    # What is printable has none of them, and is most of all text: looking at each character costs far more.
    if not text.isprintable() and any(unicodedata.category(each) in {"Cc", "Cs", "Zl", "Zp"} for each in text):
        raise InvalidError.of(field, "must not contain control characters")
    return text or None


def time_zone(text: str, field: str = "time_zone") -> str:
    """Return the name if IANA's database has it, in its spelling."""
    if text not in _zones():
        raise InvalidError.of(field, "is not a time zone of the IANA database, as Europe/Berlin is")
    return text


@lru_cache(maxsize=1)  # reads a folder of several hundred files
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones() - {"Factory", "localtime"})


def locale(text: str, field: str = "locale") -> str:
    """Return the language tag of BCP 47 in its usual spelling (`de-AT`, `zh-Hant-TW`); `de_AT` is understood."""
    found = _LOCALE.fullmatch(text.strip().replace("_", "-"))
    if found is None or len(text) > MAX_LOCALE:
        raise InvalidError.of(field, "is not a language tag of BCP 47, as de-AT is")
    script, region = found["script"], found["region"]
    return (
        found["language"].lower()
        + (f"-{script.title()}" if script else "")
        + (f"-{region.upper()}" if region else "")
        + found["rest"].lower()
    )


def _opaque(text: str, field: str) -> str:
    text = text.strip()
    if not 1 <= len(text) <= MAX_LENGTH:
        raise InvalidError.of(field, f"must have 1 to {MAX_LENGTH} characters")
    if not text.isprintable():
        # Beyond control characters and NUL this refuses lone surrogates, which no store can hold, and line separators.
        raise InvalidError.of(field, "must not contain control characters")
    return text


BY_KIND: Final[Mapping[str, Callable[[str, str], str]]] = MappingProxyType(
    {"email": email, "phone": phone, "external_id": external_id, "anonymous_id": anonymous_id}
)
"""The function for each kind of identifier, called with the text and the field's path."""
