"""How likely two records are one person: what is compared, under which keys they meet, what each likeness counts.

Pure: nothing here reads the store. What we know to be equal is one person already (`person_identifier`), so all of this
is about what is nearly equal.
"""

import itertools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from rapidfuzz import fuzz

CANDIDATE: Final = 60
"""From this score on two people are shown as possible duplicates."""
HIGHEST: Final = 100

_SAME_NAME: Final = 40
_SWAPPED_NAME: Final = 38
_ALIKE_NAME: Final = 30
_INITIAL: Final = 25
_RESEMBLING_NAME: Final = 20
_PARTIAL_NAME: Final = 15
_UNLIKE_NAME: Final = -30
_SAME_MAILBOX: Final = 85
_SAME_LETTERS: Final = 45
_SAME_LOCAL_PART: Final = 35
_ALIKE_LOCAL_PART: Final = 25
_NAME_AS_LOCAL_PART: Final = 10
_SAME_NATIONAL_NUMBER: Final = 60
_SAME_LAST_DIGITS: Final = 40
_SAME_EXTERNAL_ID: Final = 70
_UNLIKE_EXTERNAL_ID: Final = -20
_SAME_POSTAL_CODE: Final = 30
_SAME_ORGANIZATION: Final = 30

_ALIKE: Final = 90.0
_RESEMBLING: Final = 82.0
_UNLIKE: Final = 55.0
"""Of `rapidfuzz.fuzz`, 0 to 100."""

_SUFFIX: Final = 8
"""As many last digits hardly ever belong to two lines; a national number has that many in small countries."""
_NATIONAL: Final = 9

_GMAIL: Final = frozenset({"gmail.com", "googlemail.com"})
_PRIVATE: Final = _GMAIL | frozenset(
    f"{provider}.{ending}"
    for provider, endings in {
        "aol": "com",
        "gmx": "at ch com de net",
        "hotmail": "com co.uk de fr it",
        "icloud": "com",
        "live": "com co.uk de fr nl",
        "mail": "com ru",
        "me": "com",
        "msn": "com",
        "orange": "fr",
        "outlook": "com de fr",
        "proton": "me",
        "protonmail": "com",
        "qq": "com",
        "t-online": "de",
        "web": "de",
        "yahoo": "com co.uk co.jp de fr it es",
        "yandex": "com ru",
        "163": "com",
    }.items()
    for ending in endings.split()
)
"""Domains whose mailboxes belong to anybody: sharing one says nothing."""
_SHARED_BOXES: Final = frozenset(
    {
        "admin",
        "billing",
        "contact",
        "hello",
        "help",
        "hi",
        "info",
        "mail",
        "marketing",
        "me",
        "no-reply",
        "noreply",
        "office",
        "post",
        "sales",
        "service",
        "shop",
        "support",
        "team",
        "test",
        "user",
        "web",
        "webmaster",
    }
)
"""Local parts that name a desk."""
_UNDECOMPOSED: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "\N{LATIN SMALL LETTER DOTLESS I}": "i"}
)


_APOSTROPHES: Final = "'\N{RIGHT SINGLE QUOTATION MARK}"


@dataclass(frozen=True, slots=True)
class Reason:
    """What two people have in common, or not: a field and a rule, never a value."""

    field: str
    rule: str
    points: int

    def as_json(self) -> dict[str, Any]:
        """Return it as it is stored and shown."""
        return {"field": self.field, "rule": self.rule, "points": self.points}


@dataclass(frozen=True, slots=True)
class Likeness:
    """The sum, 0 to 100, and what it is made of, the strongest first."""

    score: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address taken apart."""

    local: str
    """Without a `+tag` (RFC 5233), and at Gmail without dots, which it ignores."""
    domain: str

    @property
    def letters(self) -> str:
        """The local part without what people leave out or add."""
        return "".join(character for character in self.local if character.isalnum())

    @property
    def digits(self) -> str:
        """Its digits, which tell namesakes at one provider apart."""
        return "".join(character for character in self.local if character.isdigit())

    @property
    def is_shared(self) -> bool:
        """Whether it names a desk."""
        return self.local in _SHARED_BOXES


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What is compared of a person."""

    first: str = ""
    last: str = ""
    """Folded: without case, accents and punctuation."""
    mailboxes: frozenset[Mailbox] = frozenset()
    phones: frozenset[str] = frozenset()
    """Digits alone."""
    external_ids: frozenset[str] = frozenset()
    postal_codes: frozenset[str] = frozenset()
    """With their country."""
    organizations: frozenset[str] = frozenset()
    """Ids of organizations, and domains of addresses that are not anybody's."""

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.first} {self.last}".strip()


def fold(text: str | None) -> str:
    """Return a name without case, accents and punctuation: `Müller-Łoś` is `muller los`."""
    decomposed = unicodedata.normalize("NFKD", (text or "").casefold().translate(_UNDECOMPOSED))
    letters = (" " if not character.isalnum() else character for character in decomposed if not _is_mark(character))
    return " ".join("".join(letters).split())


def _is_mark(character: str) -> bool:
    return unicodedata.combining(character) != 0 or character in _APOSTROPHES


def mailbox(address: str) -> Mailbox:
    """Return a normalized address taken apart."""
    local, _, domain = address.rpartition("@")
    local = local.partition("+")[0] or local
    if domain in _GMAIL:
        local, domain = local.replace(".", ""), "gmail.com"
    return Mailbox(local, domain)


def traits(
    first_name: str | None,
    last_name: str | None,
    identifiers: Iterable[tuple[str, str]],
    postal_codes: Iterable[tuple[str, str]] = (),
    organizations: Iterable[UUID] = (),
) -> Traits:
    """Return what is compared of a person with these `(kind, value)` and `(country, postal code)`."""
    values: Mapping[str, list[str]] = {"email": [], "phone": [], "external_id": [], "anonymous_id": []}
    for kind, value in identifiers:
        values[kind].append(value)
    mailboxes = frozenset(mailbox(address) for address in values["email"])
    return Traits(
        first=fold(first_name),
        last=fold(last_name),
        mailboxes=mailboxes,
        phones=frozenset(number.removeprefix("+") for number in values["phone"]),
        external_ids=frozenset(value.casefold() for value in values["external_id"]),
        postal_codes=frozenset(
            f"{country} {folded}" for country, code in postal_codes if (folded := fold(code).replace(" ", ""))
        ),
        organizations=frozenset(
            {str(organization) for organization in organizations}
            | {box.domain for box in mailboxes if box.domain not in _PRIVATE}
        ),
    )


def keys(person: Traits) -> set[str]:
    """Return the keys under which the person is compared: two who could be candidates share one."""
    found = {f"p:{number[-_SUFFIX:]}" for number in person.phones if len(number) >= _SUFFIX}
    found |= {f"x:{external_id}" for external_id in person.external_ids}
    for box in person.mailboxes:
        found.add(f"m:{box.local}@{box.domain}" if box.is_shared else f"m:{box.letters}")
    if person.first and person.last:
        found.add(f"n:{person.last[:4]}:{person.first[:1]}")
    for part in {person.first[:3], person.last[:3]} - {""}:
        found |= {f"z:{code}:{part}" for code in person.postal_codes}
        found |= {f"o:{organization}:{part}" for organization in person.organizations}
    return found


def compare(one: Traits, other: Traits) -> Likeness:
    """Return how like one person two are; the order of the two does not matter."""
    email = _emails(one, other)
    found = [
        email,
        _phones(one, other),
        _external_ids(one, other),
        _names(one, other),
        Reason("postal_code", "same", _SAME_POSTAL_CODE) if one.postal_codes & other.postal_codes else None,
        # a mailbox's domain would count twice
        Reason("organization", "same", _SAME_ORGANIZATION)
        if one.organizations & other.organizations and (email is None or email.points < _SAME_MAILBOX)
        else None,
    ]
    reasons = sorted(
        (reason for reason in found if reason is not None), key=lambda reason: (-abs(reason.points), reason.field)
    )
    score = sum(reason.points for reason in reasons)
    return Likeness(max(0, min(HIGHEST, score)), tuple(reasons))


def _emails(one: Traits, other: Traits) -> Reason | None:
    pairs = itertools.product(one.mailboxes, other.mailboxes)
    found = [reason for a, b in pairs if (reason := _mailboxes(a, b, (one, other))) is not None]
    return max(found, key=lambda reason: (reason.points, reason.rule), default=None)


def _mailboxes(a: Mailbox, b: Mailbox, people: Sequence[Traits]) -> Reason | None:
    if a == b:
        return Reason("email", "same_mailbox", _SAME_MAILBOX)
    if a.is_shared or b.is_shared or not a.letters or not b.letters:
        return None
    if a.letters == b.letters:
        return _same_letters(a, b, people)
    if a.domain == b.domain and a.digits == b.digits and fuzz.ratio(a.letters, b.letters) >= _ALIKE:
        return Reason("email", "alike_local_part", _ALIKE_LOCAL_PART)
    return None


def _same_letters(a: Mailbox, b: Mailbox, people: Sequence[Traits]) -> Reason:
    if a.domain == b.domain:
        return Reason("email", "same_but_for_punctuation", _SAME_LETTERS)
    # ann.smith@ twice is the name once more, not another likeness
    if any(_is_made_of_name(a.letters, person) for person in people):
        return Reason("email", "name_as_local_part", _NAME_AS_LOCAL_PART)
    return Reason("email", "same_local_part", _SAME_LOCAL_PART)


def _is_made_of_name(letters: str, person: Traits) -> bool:
    """Say whether a local part is built of names and initials alone, as `annsmith`, `asmith` or `ann` are."""
    first, last = person.first.replace(" ", ""), person.last.replace(" ", "")
    folded = fold(letters)
    heads = {first, first[:1], ""}
    tails = {last, last[:1], ""}
    return folded in {head + tail for head in heads for tail in tails} | {
        tail + head for head in heads for tail in tails
    }


def _phones(one: Traits, other: Traits) -> Reason | None:
    shared = max((_common_suffix(a, b) for a, b in itertools.product(one.phones, other.phones)), default=0)
    if shared >= _NATIONAL:
        return Reason("phone", "same_national_number", _SAME_NATIONAL_NUMBER)
    return Reason("phone", "same_last_digits", _SAME_LAST_DIGITS) if shared >= _SUFFIX else None


def _common_suffix(a: str, b: str) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(reversed(a), reversed(b))))  # noqa: B905 - to the end of the shorter


def _external_ids(one: Traits, other: Traits) -> Reason | None:
    if not one.external_ids or not other.external_ids:
        return None
    if one.external_ids & other.external_ids:
        return Reason("external_id", "same_but_for_case", _SAME_EXTERNAL_ID)
    return Reason("external_id", "unlike", _UNLIKE_EXTERNAL_ID)


def _names(one: Traits, other: Traits) -> Reason | None:
    if not (one.first and one.last and other.first and other.last):
        return Reason("name", "partly_same", _PARTIAL_NAME) if one.name and one.name == other.name else None
    rule, points = _full_names(one, other)
    return Reason("name", rule, points) if points else None


def _full_names(one: Traits, other: Traits) -> tuple[str, int]:
    if one.name == other.name:
        return "same", _SAME_NAME
    ratio = fuzz.token_sort_ratio(one.name, other.name)
    if sorted(one.name.split()) == sorted(other.name.split()):
        return "swapped", _SWAPPED_NAME
    if ratio >= _ALIKE:
        return "alike", _ALIKE_NAME
    if one.last == other.last and one.first[0] == other.first[0] and min(len(one.first), len(other.first)) == 1:
        return "initial", _INITIAL
    if ratio >= _RESEMBLING:
        return "resembling", _RESEMBLING_NAME
    return ("unlike", _UNLIKE_NAME) if ratio < _UNLIKE else ("", 0)
