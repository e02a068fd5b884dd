"""How likely two records are one person."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity import likeness
from services.identity.likeness import CANDIDATE, Traits, compare, keys, traits

ACME = UUID(int=1)


def person(
    name: str = "",
    *identifiers: str,
    postal_code: str | None = None,
    organization: UUID | None = None,
) -> Traits:
    """Return somebody; of the identifiers `@` marks an address, `+` a number, anything else an external id."""
    first, _, last = name.rpartition(" ")
    kinds = [
        ("email" if "@" in value else "phone" if value.startswith("+") else "external_id", value)
        for value in identifiers
    ]
    codes = [("DE", postal_code)] if postal_code else []
    return traits(first, last, kinds, codes, [organization] if organization else [])


SAME: list[tuple[Traits, Traits, str]] = [
    (person("", "ann.smith@gmail.com"), person("", "annsmith+shop@googlemail.com"), "same_mailbox"),
    (person("", "ann@acme.example"), person("", "ann+news@acme.example"), "same_mailbox"),
    (person("", "Crm-0042A"), person("", "CRM-0042a"), "same_but_for_case"),
    (person("", "+4915112345678"), person("", "+4315112345678"), "same_national_number"),
    (person("Ann Smith", "+4520123456"), person("Smith Ann", "+4720123456"), "same_last_digits"),
    (
        person("Jürgen Müller", "jm@a.example", postal_code="10115"),
        person("Jurgen Mueller", "m82@b.example", postal_code="10 115"),
        "",
    ),
    (person("Ann Smith", organization=ACME), person("ANN  SMITH", organization=ACME), "same"),
    (person("Ann Smith", "a.smith@acme.example"), person("Ann Smith", "asmith@acme.example"), ""),
    (person("Ann Smith", "silverfox82@a.example"), person("Anne Smith", "silverfox82@b.example"), "same_local_part"),
]
OTHERS: list[tuple[Traits, Traits]] = [
    (person("John Smith", "john.smith@a.example"), person("John Smith", "jsmith@b.example")),
    (person("John Smith", "john.smith@gmail.com"), person("John Smith", "john.smith@yahoo.com")),
    (person("John Smith", "john@a.example", postal_code="1"), person("John Smith", "j@b.example", postal_code="2")),
    (person("John Smith", "john.smith1@gmail.com"), person("John Smith", "john.smith2@gmail.com")),
    (person("John Smith"), person("John Smith")),
    (person("Ann Smith", "info@a.example"), person("Ann Smith", "info@b.example")),
    (person("Ann Smith", "info@acme.example"), person("Bo Olsen", "sales@acme.example")),
    (person("Ann Smith", organization=ACME), person("Bob Jones", organization=ACME)),
    (person("Ann Smith", "qa+1@acme.example"), person("Rupert Giles", "qa+2@acme.example")),
    (person("", "ann@a.example"), person("", "ann@b.example")),
    (person("", "+4915112345678"), person("", "+4915112345679")),
    (person(), person()),
]


@pytest.mark.parametrize(("one", "other", "rule"), SAME)
def test_what_is_nearly_equal_makes_a_candidate(one: Traits, other: Traits, rule: str) -> None:
    found = compare(one, other)
    assert found.score >= CANDIDATE, found
    assert not rule or rule in {reason.rule for reason in found.reasons}
    assert keys(one) & keys(other), "or they would never be compared"


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_a_common_name_or_a_shared_desk_makes_none(one: Traits, other: Traits) -> None:
    assert compare(one, other).score < CANDIDATE


def test_unlike_external_ids_speak_against_it() -> None:
    one, other = person("Ann Smith", "1", postal_code="10115"), person("Ann Smith", "2", postal_code="10115")
    without = compare(person("Ann Smith", postal_code="10115"), person("Ann Smith", postal_code="10115"))
    assert compare(one, other).score == without.score - 20 < CANDIDATE <= without.score


def test_the_strongest_reason_comes_first_and_none_shows_a_value() -> None:
    found = compare(person("Ann Smith", "ann@a.example", "1"), person("Ann Smith", "ann+x@a.example", "2"))
    assert [(reason.rule, reason.points) for reason in found.reasons] == [
        ("same_mailbox", 85),
        ("same", 40),
        ("unlike", -20),
    ]
    assert found.score == 100
    assert found.reasons[0].as_json() == {"field": "email", "rule": "same_mailbox", "points": 85}


@pytest.mark.parametrize(
    ("text", "folded"),
    [("  Müller-Łoś ", "muller los"), ("O'Neil", "oneil"), ("O\u2019Neil", "oneil"), ("GROẞ", "gross"), (None, "")],
)
def test_names_are_folded(text: str | None, folded: str) -> None:
    assert likeness.fold(text) == folded


WORDS = st.sampled_from(["Ann", "Anne", "ann", "Smith", "Smyth", "de la Cruz", "Ann-Marie", "A", "", "Łoś"]) | st.text(
    max_size=6
)
LOCALS = st.sampled_from(["ann", "a.smith", "ann+x", "smith82", "info", "annsmith"])
IDENTIFIERS = st.one_of(
    st.tuples(
        st.just("email"),
        st.tuples(LOCALS, st.sampled_from(["@gmail.com", "@a.example", "@b.example"])).map("".join),
    ),
    st.sampled_from([("phone", "+4915112345678"), ("phone", "+4315112345678"), ("phone", "+4720123456")]),
    st.sampled_from([("external_id", "x1"), ("external_id", "X1"), ("external_id", "x2")]),
)
PEOPLE = st.builds(
    traits,
    WORDS,
    WORDS,
    st.lists(IDENTIFIERS, max_size=4),
    st.lists(st.sampled_from([("DE", "10115"), ("DE", "10 115"), ("AT", "10115")]), max_size=2),
    st.lists(st.sampled_from([UUID(int=1), UUID(int=2)]), max_size=2),
)


@given(PEOPLE, PEOPLE)
def test_likeness_has_no_direction_and_stays_in_its_bounds(one: Traits, other: Traits) -> None:
    found = compare(one, other)
    assert found == compare(other, one)
    assert 0 <= found.score <= 100
    assert found.score == max(0, min(100, sum(reason.points for reason in found.reasons)))


@given(PEOPLE)
def test_nobody_is_unlike_themselves(one: Traits) -> None:
    assert all(reason.points > 0 for reason in compare(one, one).reasons)
