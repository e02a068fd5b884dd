"""What criteria find, as `tl_reader`, and what is said where they fail."""

from contextlib import aclosing
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from core.database import Database
from core.errors import InvalidError
from core.ids import new_id
from services.marketing import criteria
from services.marketing.criteria import running
from tests.services.marketing.criteria.found import FOUND
from tests.services.marketing.criteria.store import Store


@pytest.mark.parametrize(("sql", "found"), FOUND.items())
async def test_criteria_find_their_people_and_no_other_tenants(
    sql: str, found: str, store: Store, other_store: Store
) -> None:
    assert await store.found(sql.replace("{other}", str(other_store.people["ann"]))) == found


FAILING = {
    "score / 0 = 1": "divided by zero",
    "score % (score - score) = 1": "divided by zero",
    "score * 9223372036854775807 > 1": "too large",
    "total_spent * 999999999999999999 * 999999999999999999 > 1": "too large",
    "(attributes->>'age')::int > 18": "is none",
    "(attributes->>'plan')::date > now()": "is none",
    "(attributes->>'plan')::uuid is null": "is none",
    "(attributes->>'plan')::boolean": "is none",
    "(attributes->'plan')::numeric > 1": "does not fit|does not take",
    "created_at + interval '999999 years' > now()": "too early or too late",
    "created_at::date + 2147483647 > '2026-01-01'": "too early or too late",
    "jsonb_array_length(attributes) = 1": "does not fit|does not take",
    "score = (select score from people p)": "more than one row",
    "sum(score) > 1": "aggregate stands where none can",
    "row_number() over () = 1": "window function stands",
    "select person_id from people group by score": "neither in the GROUP BY",
    "select person_id from people having score > 1": "neither in the GROUP BY",
    "select distinct person_id from people order by score limit 1": "ORDER BY names",
    "select coalesce(p.person_id, o.person_id) as person_id from people p full join orders o"
    " on o.total > p.score": "does not do",
}


@pytest.mark.parametrize("sql", FAILING)
async def test_what_fails_by_its_authors_doing_is_told_in_a_sentence(sql: str, store: Store) -> None:
    parsed = criteria.parse(sql)
    with pytest.raises(InvalidError, match=FAILING[sql]) as refused:
        await criteria.preview(store.database, store.tenant_id, parsed)
    assert refused.value.errors[0].field == "sql"
    assert refused.value.__cause__ is None
    for secret in ("shop.example", "pro", "n/a"):
        assert secret not in str(refused.value)


@pytest.mark.parametrize("sql", [sql for sql, words in FAILING.items() if "GROUP BY" in words or "stands" in words])
async def test_what_the_server_alone_knows_is_told_without_running(sql: str, store: Store) -> None:
    with pytest.raises(InvalidError):
        await criteria.check(store.database, store.tenant_id, criteria.parse(sql))


async def test_the_check_of_good_criteria_passes(store: Store) -> None:
    for sql in FOUND:
        if "{other}" not in sql:
            await criteria.check(store.database, store.tenant_id, criteria.parse(sql))


EVERYTHING = (
    "select a.person_id from people a, people b, people c, people d, people e, people f, people g, people h, people i,"
    " people j where a.score + b.score + c.score + d.score + e.score + f.score + g.score + h.score + i.score + j.score"
    " = 123456"
)


async def test_what_takes_too_long_is_stopped_and_says_so(crowd: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = criteria.parse(EVERYTHING)
    short = timedelta(milliseconds=100)
    for name in ("PREVIEW_TIMEOUT", "PAGES_TIMEOUT", "HOLDS_TIMEOUT"):
        monkeypatch.setattr(running, name, short)
    with pytest.raises(InvalidError, match=r"sql: took longer than 0\.1 seconds and was stopped"):
        await criteria.preview(crowd.database, crowd.tenant_id, parsed)
    with pytest.raises(InvalidError, match="took longer"):
        await criteria.holds(crowd.database, crowd.tenant_id, parsed, list(crowd.people.values()))
    with pytest.raises(InvalidError, match="took longer"):
        _ = [page async for page in crowd.pages(EVERYTHING)]


async def test_the_time_of_all_pages_together_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "PAGES_TIMEOUT", timedelta(seconds=2))
    times = iter(range(100))
    monkeypatch.setattr(running, "monotonic", lambda: next(times))
    pages = store.pages("true", size=1)
    assert len(await anext(pages)) == 1
    assert len(await anext(pages)) == 1
    with pytest.raises(InvalidError, match="took longer"):
        await anext(pages)


async def test_pages_go_on_behind_where_they_were_left(store: Store) -> None:
    ids = sorted(store.people.values())
    assert [page async for page in store.pages("true", size=3)] == [ids[:3], ids[3:]]
    assert [page async for page in store.pages("true", size=4)] == [ids]
    assert [page async for page in store.pages("true", size=2, after=ids[0])] == [ids[1:3], ids[3:]]
    assert [page async for page in store.pages("true", size=2, after=ids[-1])] == []
    assert [page async for page in store.pages("select person_id from events", size=1, after=ids[0])] == [[ids[1]]]


async def test_pages_can_be_left_early(store: Store) -> None:
    async with aclosing(store.pages("true", size=1)) as pages:
        async for page in pages:
            assert len(page) == 1
            break
    assert await store.found("true") == "abcd"


async def test_it_is_told_of_whom_criteria_hold(store: Store, other_store: Store) -> None:
    asked = [store.people["ann"], store.people["ben"], other_store.people["ann"], new_id()]
    for sql in ("score > 5", "select person_id from people where score > 5"):
        held = await criteria.holds(store.database, store.tenant_id, criteria.parse(sql), asked)
        assert held == {store.people["ann"]}
    assert await criteria.holds(store.database, store.tenant_id, criteria.parse("true"), []) == set()


async def test_a_preview_has_the_count_and_some_people(store: Store) -> None:
    found = await criteria.preview(store.database, store.tenant_id, criteria.parse("score < 10"), limit=2)
    assert found.count == 3
    assert found.sample == sorted(store.people[name] for name in ("ben", "cid", "dot"))[:2]
    none = await criteria.preview(store.database, store.tenant_id, criteria.parse("false"))
    assert (none.count, none.sample) == (0, [])


async def test_an_outage_is_no_fault_of_the_criteria() -> None:
    database = Database("postgresql://nobody:wrong@127.0.0.1:1/none")
    with pytest.raises(OSError, match="Connect"):
        await criteria.preview(database, UUID(int=1), criteria.parse("true"))
    await database.close()


async def test_a_missing_right_is_no_fault_of_the_criteria(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = criteria.parse("true")
    object.__setattr__(parsed, "sql", "SELECT id AS person_id FROM user_account WHERE tenant_id = $1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await criteria.preview(store.database, store.tenant_id, parsed)
