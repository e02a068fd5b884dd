"""Two people made one, and two again."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select, text, update

from core.actor import CLI
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id
from models import Consent, ConsentChange, DuplicateCandidate, Event, Person, PersonAlias, PersonMerge, ScoreRule
from services.identity import aliases, anonymous, identifiers, merging, people, scoring, timeline, unmerging
from services.identity.consent import Choice
from services.identity.people import PersonChange
from services.identity.resolve import MAX_OF_KIND, MAX_VISITORS
from tests.eventually import eventually
from tests.factories.marketing import Marketing, walk
from tests.services.identity.merging import HISTORY, RULES, contents, fill, orphans

LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "P9D", "matched": "done", "timed_out": "done"}


async def person(marketing: Marketing, *, email: str | None = None, **change: Any) -> UUID:  # noqa: ANN401 - fields of a change
    """A person with one address of its own."""
    wanted = PersonChange(identifiers={"email": email or f"{new_id()}@shop.example"}, **change)
    async with marketing.session() as session:
        return (await people.upsert(session, wanted, by=CLI))[0].id


async def visitor(marketing: Marketing, anonymous_id: str) -> UUID:
    """Somebody of whom nothing is known but a browser's id."""
    async with marketing.session() as session:
        found, _ = await people.upsert(session, PersonChange(identifiers={"anonymous_id": anonymous_id}), by=CLI)
        return found.id


async def merge(marketing: Marketing, winner: UUID, loser: UUID) -> PersonMerge:
    async with marketing.session() as session:
        return await merging.merge(session, winner, loser, by=CLI)


async def undo(marketing: Marketing, merged: PersonMerge) -> PersonMerge:
    async with marketing.session() as session:
        return await unmerging.undo(session, merged.id, by=CLI)


async def load(marketing: Marketing, person_id: UUID) -> Person:
    async with marketing.session() as session:
        return await people.get(session, person_id)


async def two_with_everything(marketing: Marketing) -> tuple[UUID, UUID]:
    """Two people with a row in every table that names people."""
    choices = [Choice("email", "news", "opted_in"), Choice("sms", "news", "opted_out")]
    winner = await person(marketing, fields={"first_name": "Ann"}, attributes={"plan": "pro", "size": 1})
    loser = await person(
        marketing,
        fields={"first_name": "Anne", "last_name": "Lee", "source": "shop"},
        attributes={"size": 2, "colour": "red"},
        roles={"vendor": True},
        qualified=True,
        consent=choices,
    )
    other, older = await person(marketing), await visitor(marketing, f"browser-{new_id()}")
    await merge(marketing, loser, older)
    version = await marketing.journey(walk(entry={"api": True, "again": {"mode": "never"}}, wait=LISTEN))
    for key, person_id in (("winner", winner), ("loser", loser)):
        async with marketing.session() as session:
            await fill(session, person_id, key=key)
    for _ in range(2):  # the second time is refused
        await marketing.enroll(version, [loser], again=version.definition.by_api.again)
    async with marketing.session() as session:
        pairs = [sorted(pair) for pair in ((winner, loser), (loser, other), (winner, other))]
        rows: list[dict[str, Any]] = [
            {"tenant_id": marketing.tenant_id, "id": new_id(), "person_a": a, "person_b": b, "score": 80, "reasons": []}
            for a, b in pairs
        ]
        await session.execute(insert(DuplicateCandidate), rows)
    return winner, loser


async def test_every_row_of_the_loser_is_the_winners(marketing: Marketing) -> None:
    winner, loser = await two_with_everything(marketing)
    async with marketing.session() as session:
        for table, rule in RULES:
            naming = f"SELECT count(*) FROM {table.name} WHERE tenant_id = :tenant AND {rule.column} = :person"
            count = await session.scalar(text(naming), {"tenant": marketing.tenant_id, "person": loser})
            assert count or rule.merge == "drop", f"{table.name} has nothing to move"
    await merge(marketing, winner, loser)
    async with marketing.session() as session:
        assert await orphans(session) == {}
        assert await aliases.resolve(session, loser) == winner
        assert len(await aliases.ids_of(session, winner)) == 3
    (waiter,) = await marketing.waiters()
    assert waiter.subject_id == winner


async def test_a_merge_taken_back_leaves_everything_as_it_was(marketing: Marketing) -> None:
    winner, loser = await two_with_everything(marketing)
    async with marketing.session() as session:
        before = await contents(session, without=["activity", "event", "consent_change"])
        events = await _events(marketing, winner), await _events(marketing, loser)
    merged = await merge(marketing, winner, loser)
    async with marketing.session() as session:
        changed = await contents(session, without=["activity", "event", "consent_change"])
    assert {name for name in before if before[name] != changed[name]} >= {
        "person", "person_identifier", "consent", "enrollment", "waiter", "message", "order_fact", "address",
        "organization_person", "duplicate_candidate", "person_alias",
    }  # fmt: skip
    undone = await undo(marketing, merged)
    assert undone.undone_at is not None
    async with marketing.session() as session:
        after = await contents(session, without=["activity", "event", "consent_change"])
    for name, rows in before.items():
        assert after[name] == rows, name
    assert (await _events(marketing, winner), await _events(marketing, loser)) == events
    with pytest.raises(ConflictError, match="taken back before"):
        await undo(marketing, merged)


async def _events(marketing: Marketing, person_id: UUID) -> list[UUID]:
    async with marketing.session() as session:
        found = await session.scalars(
            select(Event.id)
            .where(
                Event.tenant_id == session.tenant_id,
                Event.person_id == person_id,
                Event.subject_id == person_id,
                Event.type == "page.viewed",
            )
            .order_by(Event.id)
        )
        return list(found)


async def test_the_winner_keeps_its_own_and_takes_what_it_lacks(marketing: Marketing) -> None:
    winner, loser = await two_with_everything(marketing)
    lost = await load(marketing, loser)
    await merge(marketing, winner, loser)
    found = await load(marketing, loser)
    assert found.id == winner
    assert (found.first_name, found.last_name, found.source) == ("Ann", "Lee", "shop")
    assert found.attributes == {"plan": "pro", "size": 1, "colour": "red"}
    assert found.is_vendor
    assert found.qualified_at == lost.qualified_at
    assert found.lifecycle_stage == "customer"
    assert found.email != lost.email


@pytest.mark.parametrize(
    ("winners", "losers", "after"),
    [
        ("opted_in", "opted_out", "opted_out"),
        ("opted_out", "opted_in", "opted_out"),
        (None, "opted_out", "opted_out"),
        (None, "opted_in", "opted_in"),
        ("opted_in", None, "opted_in"),
        ("pending", "opted_in", "pending"),
        ("opted_in", "pending", "pending"),
        ("pending", "opted_out", "opted_out"),
    ],
)
async def test_of_two_consents_the_stricter_holds(
    marketing: Marketing, winners: str | None, losers: str | None, after: str
) -> None:
    winner, loser = await person(marketing), await person(marketing)
    async with marketing.session() as session:
        for person_id, status in ((winner, winners), (loser, losers)):
            if status is not None:
                await session.execute(
                    insert(Consent),
                    {
                        "tenant_id": marketing.tenant_id,
                        "person_id": person_id,
                        "channel": "email",
                        "topic": "news",
                        "status": status,
                    },
                )
    merged = await merge(marketing, winner, loser)
    assert await _standing(marketing) == {(winner, after)}
    async with marketing.session() as session:
        ledger = (await session.scalars(select(ConsentChange).where(ConsentChange.person_id == winner))).all()
        told = (await session.scalars(select(Event.type).where(Event.person_id == winner))).all()
    assert [(entry.status, entry.evidence) for entry in ledger] == (
        [] if after == winners else [(after, {"merge_id": str(merged.id)})]
    )
    assert ("person.unsubscribed" in told) == (after == "opted_out" != winners)
    await undo(marketing, merged)
    expected = {(person_id, status) for person_id, status in ((winner, winners), (loser, losers)) if status}
    assert await _standing(marketing) == expected


async def _standing(marketing: Marketing) -> set[tuple[UUID, str]]:
    async with marketing.session() as session:
        rows = await session.execute(
            select(Consent.person_id, Consent.status).where(Consent.tenant_id == marketing.tenant_id)
        )
        return {(row.person_id, row.status) for row in rows}


async def test_what_came_after_the_merge_stays_with_the_winner(marketing: Marketing) -> None:
    winner, loser = await person(marketing), await person(marketing, email="lee@shop.example")
    merged = await merge(marketing, winner, loser)
    async with marketing.session() as session:
        await people.update(
            session, loser, PersonChange(fields={"first_name": "Zoe"}, identifiers={"phone": "+4930123456"}), by=CLI
        )
        await identifiers.detach(session, winner, kind="email", value="lee@shop.example", by=CLI)
    await undo(marketing, merged)
    kept, back = await load(marketing, winner), await load(marketing, loser)
    assert (kept.first_name, kept.phone) == ("Zoe", "+4930123456")
    assert back.id == loser
    assert back.email is None, "an address that was taken away since stays away"


async def test_an_identifier_shown_by_the_winner_goes_back_with_the_loser(marketing: Marketing) -> None:
    winner, loser = await person(marketing, email="w@shop.example"), await person(marketing, email="l@shop.example")
    merged = await merge(marketing, winner, loser)
    assert (await load(marketing, await person(marketing, email="l@shop.example"))).email == "l@shop.example"
    await undo(marketing, merged)
    assert (await load(marketing, winner)).email == "w@shop.example"
    assert (await load(marketing, loser)).email == "l@shop.example"


async def test_an_address_that_came_since_is_shown_when_the_losers_goes_back(marketing: Marketing) -> None:
    winner, loser = await visitor(marketing, "browser-1"), await person(marketing, email="l@shop.example")
    merged = await merge(marketing, winner, loser)
    async with marketing.session() as session:
        await identifiers.attach(session, winner, kind="email", value="w@shop.example", by=CLI)
    assert (await load(marketing, winner)).email == "l@shop.example"
    await undo(marketing, merged)
    assert (await load(marketing, winner)).email == "w@shop.example"


async def test_chains_come_apart_in_any_order(marketing: Marketing) -> None:
    a = await person(marketing, fields={"first_name": "A", "last_name": "Aa"}, attributes={"a": 1})
    b = await person(marketing, attributes={"b": 1})
    c = await person(marketing, attributes={"c": 1})
    for person_id in (a, b, c):
        async with marketing.session() as session:
            await fill(session, person_id, key=str(person_id))
    async with marketing.session() as session:
        before = await contents(session, without=sorted(HISTORY))
    for order in ((0, 1), (1, 0)):
        merges = [await merge(marketing, b, a), await merge(marketing, c, b)]
        assert (await load(marketing, a)).id == c
        assert (await load(marketing, c)).first_name == "A"
        first, second = (merges[number] for number in order)
        await undo(marketing, first)
        if order == (0, 1):
            assert (await load(marketing, a)).id == a
            assert (await load(marketing, c)).first_name is None
            assert (await load(marketing, b)).id == c
        async with marketing.session() as session:
            assert await orphans(session) == {}
        await undo(marketing, second)
        async with marketing.session() as session:
            after = await contents(session, without=sorted(HISTORY))
        for name, rows in before.items():
            assert after[name] == rows, (order, name)


async def test_the_same_person_cannot_be_merged_with_itself(marketing: Marketing) -> None:
    winner, loser = await person(marketing), await person(marketing)
    await merge(marketing, winner, loser)
    for pair in ((winner, loser), (loser, winner), (loser, loser)):
        with pytest.raises(ConflictError, match="the same person already"):
            await merge(marketing, *pair)
    with pytest.raises(NotFoundError):
        await merge(marketing, winner, new_id())


async def test_a_cycle_of_merges_ends_where_it_began(marketing: Marketing) -> None:
    one, two = await person(marketing), await person(marketing)
    await undo(marketing, await merge(marketing, one, two))
    merged = await merge(marketing, two, one)
    assert (await load(marketing, one)).id == two
    await undo(marketing, merged)
    assert (await load(marketing, one)).id == one
    async with marketing.session() as session:
        assert (
            await session.scalars(select(PersonAlias).where(PersonAlias.tenant_id == session.tenant_id))
        ).all() == []


async def test_of_two_passages_through_a_journey_the_winners_goes_on(marketing: Marketing) -> None:
    winner, loser = await person(marketing), await person(marketing)
    version = await marketing.journey(walk(entry={"api": True, "again": {"mode": "never"}}, wait=LISTEN))
    again = version.definition.by_api.again
    for person_id in (winner, loser):
        await marketing.enroll(version, [person_id], again=again)
    merged = await merge(marketing, winner, loser)
    rows = await marketing.enrollments(version)
    assert [(row.person_id, row.status, row.reason) for row in rows] == [
        (winner, "waiting", None),
        (winner, "exited", "merged"),
    ]
    await undo(marketing, merged)
    rows = await marketing.enrollments(version)
    assert [(row.subject_id, row.once, row.status) for row in rows] == [
        (winner, True, "waiting"),
        (loser, True, "exited"),
    ]


async def test_the_timeline_tells_both_histories(marketing: Marketing) -> None:
    winner, loser = await person(marketing), await person(marketing, fields={"first_name": "Lee"})
    merged = await merge(marketing, winner, loser)
    async with marketing.session() as session:
        told = await timeline.page(session, winner, limit=50)
    created = [entry for entry in told if entry.type == "person.created"]
    assert len(created) == 2
    assert [entry.detail["changes"].keys() >= {"merge_id"} for entry in told if entry.type == "person.merged"] == [
        True
    ] * 2
    await undo(marketing, merged)
    async with marketing.session() as session:
        told = await timeline.page(session, winner, limit=50)
    assert len([entry for entry in told if entry.type == "person.created"]) == 1


async def test_a_visitor_who_says_who_it_is_becomes_that_person(marketing: Marketing) -> None:
    known = await person(marketing, email="known@shop.example")
    older, newer = await visitor(marketing, "phone"), await visitor(marketing, "laptop")
    async with marketing.session() as session:
        found, created = await people.upsert(
            session, PersonChange(identifiers={"email": "known@shop.example", "anonymous_id": "phone"}), by=CLI
        )
    assert (found.id, created) == (known, False)
    assert (await load(marketing, older)).id == known
    async with marketing.session() as session:
        assert not await anonymous.unite(session, [{newer}], by=CLI)
        assert await anonymous.unite(session, [{newer, await aliases.resolve(session, older)}], by=CLI)
        (merged, *_) = await merging.page(session, limit=10, before=None, person_id=known)
    assert (merged.source, merged.loser_id) == ("anonymous", newer)


async def test_of_two_visitors_the_older_stays_and_of_two_known_nobody_goes(marketing: Marketing) -> None:
    older, newer = await visitor(marketing, "one"), await visitor(marketing, "two")
    async with marketing.session() as session:
        await session.execute(
            update(Person)
            .where(Person.tenant_id == session.tenant_id, Person.id == newer)
            .values(created_at=datetime.now(UTC) - timedelta(days=9))
        )
    async with marketing.session() as session:
        assert await anonymous.unite(session, [{older, newer}], by=CLI)
    assert (await load(marketing, older)).id == newer
    one, two = await person(marketing), await person(marketing)
    third = await visitor(marketing, "three")
    async with marketing.session() as session:
        assert not await anonymous.unite(session, [{one, two, third}], by=CLI)


@pytest.mark.parametrize("kind", ["email", "phone", "external_id"])
async def test_identifiers_have_a_limit_by_kind(marketing: Marketing, kind: str) -> None:
    values = {
        "email": [f"a{n}@shop.example" for n in range(MAX_OF_KIND[kind] + 1)],
        "phone": [f"+49301234{n:03}" for n in range(MAX_OF_KIND[kind] + 1)],
        "external_id": [f"id-{n}" for n in range(MAX_OF_KIND[kind] + 1)],
    }[kind]
    one, two = await visitor(marketing, "one"), await visitor(marketing, "two")
    async with marketing.session() as session:
        for value in values[:-1]:
            await identifiers.attach(session, one, kind=kind, value=value, by=CLI)
        await identifiers.attach(session, two, kind=kind, value=values[-1], by=CLI)
    with pytest.raises(ConflictError, match="at most 20"):
        await merge(marketing, two, one)
    async with marketing.session() as session:
        await identifiers.detach(session, two, kind=kind, value=values[-1], by=CLI)
        with pytest.raises(InvalidError, match=kind):
            await identifiers.attach(session, one, kind=kind, value=values[-1], by=CLI)


async def test_the_oldest_visit_makes_room_for_the_newest(marketing: Marketing) -> None:
    one, two = await person(marketing), await person(marketing)
    for prefix, person_id in (("a", one), ("b", two)):
        for number in range(MAX_VISITORS - 10):
            async with marketing.session() as session:
                await identifiers.attach(session, person_id, kind="anonymous_id", value=f"{prefix}{number}", by=CLI)
    async with marketing.session() as session:
        before = await contents(session, without=sorted(HISTORY))
    merged = await merge(marketing, two, one)
    async with marketing.session() as session:
        kept = [row["value"] for row in (await contents(session))["person_identifier"] if row["kind"] == "anonymous_id"]
    assert len(kept) == MAX_VISITORS
    assert {f"b{number}" for number in range(MAX_VISITORS - 10)} < set(kept)
    await undo(marketing, merged)
    async with marketing.session() as session:
        after = await contents(session, without=sorted(HISTORY))
    assert sorted(map(str, after["person_identifier"])) == sorted(map(str, before["person_identifier"]))


async def test_merges_that_overlap_all_end_in_one_person(marketing: Marketing) -> None:
    crowd = [await person(marketing) for _ in range(6)]

    async def one(winner: UUID, loser: UUID) -> None:
        try:
            await merge(marketing, winner, loser)
        except ConflictError as error:
            assert "the same person" in error.detail  # noqa: PT017 - one of many at once

    await asyncio.gather(*(one(a, b) for a in crowd for b in crowd if a != b))
    assert len({(await load(marketing, person_id)).id for person_id in crowd}) == 1
    async with marketing.session() as session:
        assert await orphans(session) == {}


async def test_a_hundred_who_come_at_once_with_one_address_are_one_person(marketing: Marketing) -> None:
    found = await asyncio.gather(*(person(marketing, email="one@shop.example") for _ in range(100)))
    assert len(set(found)) == 1


async def test_an_identifier_given_up_meanwhile_makes_somebody_new(marketing: Marketing) -> None:
    """The upsert finds the owner, then waits for it; when it gets it, the address is nobody's."""
    first = await person(marketing, email="old@shop.example")
    changed = PersonChange(identifiers={"email": "new@shop.example"})
    async with marketing.session() as session:
        await people.update(session, first, changed, by=CLI)
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        waiting = asyncio.create_task(person(marketing, email="old@shop.example"))

        async def blocked() -> bool | None:
            async with marketing.session() as other:
                waits = text("SELECT 1 FROM pg_stat_activity WHERE :pid = ANY(pg_blocking_pids(pid))")
                return await other.scalar(waits, {"pid": pid}) == 1 or None

        await eventually(blocked)
    second = await waiting
    assert second != first
    assert (await load(marketing, first)).email == "new@shop.example"
    async with marketing.session() as session:
        assert await orphans(session) == {}


async def test_an_undo_scores_anew_by_the_rules_of_today(marketing: Marketing) -> None:
    rule = ScoreRule(
        tenant_id=marketing.tenant_id,
        id=new_id(),
        key="red",
        name="Red",
        condition={"field": "person.attributes.colour", "op": "=", "value": "red"},
        points=60,
    )
    async with marketing.session() as session:
        session.add(rule)
    winner, loser = await person(marketing), await person(marketing, attributes={"colour": "red"})
    async with marketing.session() as session:
        await scoring.recompute(session, [loser])
    assert (await load(marketing, loser)).score == 60
    merged = await merge(marketing, winner, loser)
    async with marketing.session() as session:
        await session.execute(update(ScoreRule).where(ScoreRule.tenant_id == marketing.tenant_id).values(enabled=False))
    await undo(marketing, merged)
    assert [(await load(marketing, each)).score for each in (winner, loser)] == [0, 0]
