"""What is refused before anything runs, with a sentence; and that nothing its author wrote gets into the statement."""

import re

import pytest

from core.errors import InvalidError
from services.marketing import criteria
from services.marketing.criteria import source
from tests.services.marketing.criteria.refused import REFUSED
from tests.services.marketing.criteria.spelling import spelled_from_known_words


@pytest.mark.parametrize("sql", REFUSED, ids=lambda sql: sql[:70].encode("unicode_escape").decode())
def test_what_is_not_allowed_is_refused_with_a_sentence(sql: str) -> None:
    with pytest.raises(InvalidError, match=REFUSED[sql]) as refused:
        criteria.parse(sql)
    (problem,) = refused.value.errors
    assert problem.field == "sql"
    assert len(problem.reason) < 1_000


@pytest.mark.parametrize("wrap", ["select person_id from people where {}", "exists (select 1 from orders o where {})"])
@pytest.mark.parametrize(
    "hostile", ["pg_sleep(1) is null", "email ~ 'x'", "current_setting('a') = 'b'", "tenant_id is null"]
)
def test_a_refusal_does_not_depend_on_the_place(hostile: str, wrap: str) -> None:
    for condition in (
        f"({hostile})",
        f"true and ({hostile})",
        f"case when {hostile} then true end",
        f"not ({hostile})",
    ):
        with pytest.raises(InvalidError):
            criteria.parse(wrap.format(condition))


def test_a_text_that_the_parser_goes_back_and_forth_over_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    criteria.parse("score > 1")
    monkeypatch.setattr(source, "MAX_STEPS", 0)
    with pytest.raises(InvalidError, match="cannot be read"):
        criteria.parse("score > 1")


def test_a_text_of_a_megabyte_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidError, match="1,048,576 characters"):
        criteria.parse("x" * 2**20)


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        ("score = 1 and\n  pg_sleep(1) is null", "line 2, column 3: the function pg_sleep()"),
        ("select person_id\nfrom people\nwhere email ~ 'x'", "line 3, column 7: a regular expression"),
        ("score = 1 = = 2", "line 1, column 13: cannot be read as SQL at '='"),
    ],
)
def test_a_refusal_says_where(sql: str, place: str) -> None:
    with pytest.raises(InvalidError) as refused:
        criteria.parse(sql)
    assert refused.value.errors[0].reason.startswith(place)


def test_it_is_known_what_criteria_read() -> None:
    parsed = criteria.parse(
        "with v as (select person_id from segment_members where segment_key in ('vip', 'gold'))"
        " select v.person_id from v join orders using (person_id) where exists (select 1 from people p join"
        " segment_members s on s.person_id = p.person_id and 'b' = s.segment_key where p.person_id = v.person_id)"
    )
    assert parsed.views == {"segment_members", "orders", "people"}
    assert parsed.segments == {"vip", "gold", "b"}
    assert criteria.parse("score > 1").views == {"people"}
    assert criteria.parse("score > 1").segments == frozenset()


def test_nothing_of_the_text_gets_into_the_statement() -> None:
    parsed = criteria.parse(
        "/* MARK */ with marked as (select email as mark, person_id as mark_id from people as marked_people) -- MARK\n"
        " select mark_id as person_id from marked m where mark = 'MARK' and mark like 'MARK%' and 98765 > 1.2345"
        " and now() > timestamptz '2026-01-31T09:00:00Z' - interval '7777 days' order by mark_id limit 4242"
    )
    assert spelled_from_known_words(parsed.sql)
    assert not re.search("mark|98765|2345|2026|7777|4242", parsed.sql, re.IGNORECASE)
    assert "MARK" in parsed.literals
    assert not spelled_from_known_words("SELECT t1.person_id FROM people AS mark")
