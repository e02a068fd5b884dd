"""Things linked and parted: whatever they are, however many at once, and whoever else does it meanwhile."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from core.actor import CLI
from core.database import Database, TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id
from models import Activity, Association
from services.identity import erasing, merging, organizations, timeline, unmerging
from services.objects import association_definitions, associations, definitions, ends, linking, records
from services.objects.ends import End
from tests.factories.erasing import HASHES
from tests.factories.linking import KINDS, add, add_object, add_one, new, stored, told
from tests.factories.marketing import Marketing
from tests.services.identity.statements import recorded

NEXT = KINDS[1:] + KINDS[:1]


async def one_of_each(session: TenantSession) -> dict[str, str]:
    """A thing of every type."""
    object_id = await add_object(session, "request")
    return {kind: await add_one(session, kind, object_id=object_id) for kind in KINDS}


async def define(session: TenantSession, label: str, start: str, to: str, cardinality: str) -> UUID:
    fields = {"label": label, "from_type": start, "to_type": to, "cardinality": cardinality}
    return (await association_definitions.create(session, fields, by=CLI)).id


async def link(session: TenantSession, start: tuple[str, str], label: str, to: tuple[str, str]) -> Association:
    return (await linking.create(session, new(start, label, to), by=CLI))[0]


async def log(session: TenantSession) -> list[tuple[str, UUID, str, dict[str, Any]]]:
    rows = await session.scalars(
        select(Activity)
        .where(Activity.tenant_id == session.tenant_id, Activity.type.startswith("association."))
        .order_by(Activity.id)
    )
    return [(row.subject_type, row.subject_id, row.type, row.changes) for row in rows]


@pytest.mark.parametrize(("start", "to"), [*zip(KINDS, KINDS, strict=True), *zip(KINDS, NEXT, strict=True)])
async def test_anything_is_linked_to_anything_and_told_to_both(
    database: Database, tenant_id: UUID, start: str, to: str
) -> None:
    async with database.tenant(tenant_id) as session:
        object_id = await add_object(session, "other")
        one = (start, (await one_of_each(session))[start])
        other = (to, await add_one(session, to, object_id=object_id))
        made, created = await linking.create(session, new(one, "about", other), by=CLI)
        again, repeated = await linking.create(session, new(one, "about", other), by=CLI)
        assert (created, repeated, again.id) == (True, False, made.id)
        assert await stored(session) == {(":".join(one), "about", ":".join(other))}
        shown: dict[str, Any] = {
            side: {"type": kind, "id": key} for side, (kind, key) in (("from", one), ("to", other))
        }
        properties = shown | {"label": "about"}
        if "record" in {start, to}:
            properties["object"] = "other" if to == "record" else "request"
        events = await told(session)
        assert [event.person_id for event in events] == (
            [UUID(key) for kind, key in (one, other) if kind == "person"] or [None]
        )
        for event in events:
            assert (event.type, event.subject_type, event.subject_id) == ("association.created", "association", made.id)
            assert event.properties == properties
        logged = {(kind, key): changes for kind, key, verb, changes in await log(session) if verb.endswith(".created")}
        for (kind, key), side in ((one, "to"), (other, "from")):
            if kind != "order":
                changes = logged.pop((kind, UUID(key)))
                assert changes == {
                    "association_id": [None, str(made.id)],
                    "label": [None, "about"],
                    side: [None, shown[side]],
                }
        assert logged == {}
        await associations.remove(session, made.id, by=CLI)
        assert await stored(session) == set()
        assert [event.type for event in await told(session)][len(events) :] == ["association.deleted"] * len(events)
        with pytest.raises(NotFoundError):
            await associations.remove(session, made.id, by=CLI)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"from_id": str(new_id())}, ["from.id"]),
        ({"from_id": str(new_id()), "to_id": str(new_id())}, ["from.id", "to.id"]),
        ({"to_id": "7"}, ["to.id"]),
        ({"from_type": "message", "to_type": "thing"}, ["from.type", "to.type"]),
        ({"from_type": "order", "from_id": ""}, ["from.id"]),
        ({"from_type": "order", "from_id": "none"}, ["from.id"]),
    ],
)
async def test_what_cannot_be_linked_is_refused_by_name(
    database: Database, tenant_id: UUID, change: dict[str, str], fields: list[str]
) -> None:
    async with database.tenant(tenant_id) as session:
        person, organization = await add_one(session, "person"), await add_one(session, "organization")
        wanted = {"from_type": "person", "from_id": person, "to_type": "organization", "to_id": organization}
        with pytest.raises(InvalidError) as refused:
            await linking.create(session, linking.NewAssociation(**(wanted | change), label="x"), by=CLI)
        assert [problem.field for problem in refused.value.errors] == fields
        with pytest.raises(InvalidError, match="to: is the same as from"):
            await link(session, ("person", person), "x", ("person", person.upper()))
        assert await stored(session) == set()
        assert await told(session) == []


async def test_nothing_reaches_into_another_tenant(
    database: Database, tenant_id: UUID, other_tenant: Marketing
) -> None:
    async with other_tenant.session() as session:
        theirs = await one_of_each(session)
        kept = await link(session, ("person", theirs["person"]), "x", ("order", theirs["order"]))
    async with database.tenant(tenant_id) as session:
        mine = await add_one(session, "person")
        for kind, key in theirs.items():
            with pytest.raises(InvalidError, match=f"there is no such {kind}"):
                await link(session, ("person", mine), "x", (kind, key))
            with pytest.raises(NotFoundError):
                await ends.find(session, kind, key)
        with pytest.raises(NotFoundError):
            await associations.remove(session, kept.id, by=CLI)
    columns = {kind: "order_key" if kind == "order" else f"{kind}_id" for kind in KINDS}
    for kind, key in theirs.items():
        row = {"tenant_id": tenant_id, "id": new_id(), "label": "x", "from_person_id": UUID(mine)}
        row[f"to_{columns[kind]}"] = key if kind == "order" else UUID(key)
        with pytest.raises(IntegrityError, match="foreign key"):
            async with database.tenant(tenant_id) as session:
                await session.execute(insert(Association).values(row))


async def test_a_batch_judges_each_alone_the_first_given_first(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await define(session, "boss", "person", "organization", "one_to_one")
        ann, bob = await add(session, "person", 2)
        shop, farm = await add(session, "organization", 2)
        there = await link(session, ("person", ann), "fan", ("organization", shop))
        wanted = [
            new(("person", bob), "boss", ("organization", shop)),
            new(("person", ann), "boss", ("organization", shop)),
            new(("person", ann), "boss", ("organization", farm)),
            new(("person", ann), "fan", ("organization", shop)),
            new(("person", bob), "boss", ("organization", shop)),
            new(("organization", shop), "boss", ("person", bob)),
            new(("thing", bob), "fan", ("person", ann)),
        ]
        found = await linking.create_all(session, wanted, by=CLI)
        assert [outcome.created for outcome in found] == [True, False, True, False, False, False, False]
        assert found[3].association_id == there.id
        assert found[4].association_id == found[0].association_id
        assert isinstance(found[1].error, ConflictError)
        assert found[1].error.extra == {"association_id": str(found[0].association_id)}
        assert [[problem.field for problem in outcome.error.errors] for outcome in found if outcome.error] == [
            ["to"], ["from.type", "to.type"], ["from.type"],
        ]  # fmt: skip
        assert len(await stored(session)) == 3


async def test_a_batch_costs_as_many_statements_as_one(database: Database, tenant_id: UUID) -> None:
    counts: list[int] = []
    async with database.tenant(tenant_id) as session:
        people, shops = await add(session, "person", 301), await add(session, "organization", 301)
        for some in (slice(1), slice(1, 301)):
            wanted = [
                new(("person", person), "fan", ("organization", shop))
                for person, shop in zip(people[some], shops[some], strict=True)
            ]
            with recorded() as statements:
                await linking.create_all(session, wanted, by=CLI)
            counts.append(len(statements))
    assert counts[1] <= counts[0] + 2, "the log is written a thousand rows at a time"


@pytest.mark.parametrize(
    ("cardinality", "second_to", "second_from"),
    [
        ("one_to_one", False, False),
        ("one_to_many", True, False),
        ("many_to_one", False, True),
        ("many_to_many", True, True),
    ],
)
async def test_a_cardinality_holds_its_sides(
    database: Database, tenant_id: UUID, cardinality: str, *, second_to: bool, second_from: bool
) -> None:
    async with database.tenant(tenant_id) as session:
        await define(session, "boss", "person", "organization", cardinality)
        ann, bob = await add(session, "person", 2)
        shop, farm = await add(session, "organization", 2)
        first = await link(session, ("person", ann), "boss", ("organization", shop))
        found = await linking.create_all(
            session,
            [
                new(("person", ann), "boss", ("organization", farm)),
                new(("person", bob), "boss", ("organization", shop)),
            ],
            by=CLI,
        )
        assert [outcome.created for outcome in found] == [second_to, second_from]
        for outcome, field in zip(found, ("from", "to"), strict=True):
            if outcome.error is not None:
                assert [problem.field for problem in outcome.error.errors] == [field]
                assert outcome.error.extra == {"association_id": str(first.id)}


async def test_of_two_who_link_the_only_one_at_once_one_wins(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        object_id = await add_object(session, "request")
        await define(session, "boss", "organization", "record:request", "one_to_one")
        shops = await add(session, "organization", 8)
        request = await add_one(session, "record", object_id=object_id)

    async def attempt(shop: str) -> Association | ConflictError:
        async with database.tenant(tenant_id) as session:
            try:
                return await link(session, ("organization", shop), "boss", ("record", request))
            except ConflictError as error:
                return error

    found = await asyncio.gather(*(attempt(shop) for shop in shops))
    (won,) = [one for one in found if isinstance(one, Association)]
    for one in found:
        if isinstance(one, ConflictError):
            assert one.extra == {"association_id": str(won.id)}


async def test_many_who_link_the_same_in_any_order_neither_fail_nor_double(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await define(session, "boss", "organization", "order", "one_to_one")
        shops, orders = await add(session, "organization", 20), await add(session, "order", 20)
    plain = [new(("organization", shop), "fan", ("order", order)) for shop, order in zip(shops, orders, strict=True)]
    only = [new(("organization", shop), "boss", ("order", order)) for shop, order in zip(shops, orders, strict=True)]
    crossed = [
        new(("organization", shop), "boss", ("order", order)) for shop, order in zip(shops, orders[::-1], strict=True)
    ]

    async def attempt(wanted: list[linking.NewAssociation]) -> list[linking.Outcome]:
        async with database.tenant(tenant_id) as session:
            return await linking.create_all(session, wanted, by=CLI)

    await asyncio.gather(*(attempt(batch[::way]) for batch in (plain, only, crossed) for way in (1, -1)))
    async with database.tenant(tenant_id) as session:
        rows = await stored(session)
        assert {row for row in rows if row[1] == "fan"} == {
            (f"organization:{shop}", "fan", f"order:{order}") for shop, order in zip(shops, orders, strict=True)
        }
        bosses = [row for row in rows if row[1] == "boss"]
        assert len({row[0] for row in bosses}) == len({row[2] for row in bosses}) == len(bosses) == 20
        assert len(await told(session)) == 40


async def test_a_list_has_both_sides_in_one_order_and_pages_through_them(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        things, friend = await one_of_each(session), await add_one(session, "person")
        me = ("person", things["person"])
        for label in ("b", "a"):
            for kind in ("organization", "record", "order"):
                await link(session, me, label, (kind, things[kind]))
                await link(session, (kind, things[kind]), label, me)
        await link(session, me, "a", ("person", friend))
        await link(session, ("organization", things["organization"]), "a", ("person", friend))
        end = await ends.find(session, *me)
        whole = await associations.page(session, end, limit=100)
        assert [one.position for one in whole] == sorted(
            [one.position for one in whole], key=lambda at: (at.label, at.other_end, at.side)
        )
        assert len(whole) == 13
        paged: list[associations.Listed] = []
        while page := await associations.page(session, end, limit=2, after=paged[-1].position if paged else None):
            paged += page
        assert paged == whole
        for side in ("from", "to"):
            one_sided = await associations.page(session, end, sides=[side], label="a", limit=100)
            assert one_sided == [one for one in whole if one.side == side and one.link.label == "a"]


async def test_deleting_an_organization_parts_it_and_tells_the_others(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        things = await one_of_each(session)
        shop = ("organization", things["organization"])
        made = await link(session, ("person", things["person"]), "fan", shop)
        await link(session, shop, "about", ("record", things["record"]))
        kept = await link(session, ("person", things["person"]), "about", ("record", things["record"]))
    async with database.tenant(tenant_id) as session:
        await organizations.remove(session, UUID(things["organization"]), by=CLI)
        assert {row[1:] for row in await stored(session)} == {("about", f"record:{things['record']}")}
        gone = [event for event in await told(session) if event.type == "association.deleted"]
        assert {(event.person_id, event.properties["label"]) for event in gone} == {
            (UUID(things["person"]), "fan"), (None, "about"),
        }  # fmt: skip
        parted = {entry[0]: entry[3] for entry in await log(session) if entry[2] == "association.deleted"}
        assert set(parted) == {"person", "record"}
        assert parted["person"]["association_id"] == [str(made.id), None]
        assert parted["person"]["to"] == [{"type": shop[0], "id": shop[1]}, None]
        assert (await associations.get(session, kept.id)).label == "about"


async def test_all_that_something_has_is_parted_however_much(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(associations, "_PAGE", 3)
    async with database.tenant(tenant_id) as session:
        object_id = await add_object(session, "request")
        request = await add_one(session, "record", object_id=object_id)
        people = await add(session, "person", 8)
        wanted = [new(("person", person), "asked", ("record", request)) for person in people]
        await linking.create_all(session, wanted, by=CLI)
        assert await associations.people_of(session, "record", request) == {UUID(person) for person in people}
        assert await associations.unlink_all(session, "record", request, by=CLI) == 8
        gone = [event for event in await told(session) if event.type == "association.deleted"]
        assert {str(event.person_id) for event in gone} == set(people)
        assert {event.properties["object"] for event in gone} == {"request"}
        assert await stored(session) == set()


async def test_what_is_deleted_without_a_word_takes_its_associations_along(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        things = await one_of_each(session)
        for kind in ("record", "order", "organization"):
            await link(session, ("person", things["person"]), "x", (kind, things[kind]))
        for statement in ("record", "order_fact", "organization"):
            await session.execute(text(f"DELETE FROM {statement} WHERE tenant_id = :tenant"), {"tenant": tenant_id})
        assert await stored(session) == set()


async def test_an_erased_persons_are_gone_and_others_hear_of_it(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        person, friend, fan = await add(session, "person", 3)
        shop = await add_one(session, "organization")
        await link(session, ("person", person), "knows", ("person", friend))
        await link(session, ("person", fan), "knows", ("person", person))
        await link(session, ("person", fan), "knows", ("person", friend))
        await link(session, ("person", person), "fan", ("organization", shop))
    async with database.tenant(tenant_id) as session:
        await erasing.erase(session, UUID(person), by=CLI, hashes=HASHES)
    async with database.tenant(tenant_id) as session:
        assert await stored(session) == {(f"person:{fan}", "knows", f"person:{friend}")}
        gone = [event for event in await told(session) if event.type == "association.deleted"]
        assert {str(event.person_id) for event in gone} == {friend, fan}


async def test_an_id_merged_away_means_the_winner(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        winner, loser = await add(session, "person", 2)
        shop = await add_one(session, "organization")
    async with database.tenant(tenant_id) as session:
        await merging.merge(session, UUID(winner), UUID(loser), by=CLI)
        await link(session, ("person", loser), "fan", ("organization", shop))
        assert await stored(session) == {(f"person:{winner}", "fan", f"organization:{shop}")}
        assert await ends.find(session, "person", loser) == End("person", winner)
        with pytest.raises(InvalidError, match="the same as from"):
            await link(session, ("person", loser), "knows", ("person", winner))
        found = await linking.create_all(
            session, [new(("person", either), "new", ("organization", shop)) for either in (winner, loser)], by=CLI
        )
        assert [outcome.created for outcome in found] == [True, False]


async def test_somebody_merged_while_linked_is_the_winner(marketing: Marketing) -> None:
    async with marketing.session() as session:
        winner, loser = await add(session, "person", 2)
        shop = await add_one(session, "organization")

    async def attempt() -> None:
        async with marketing.session() as session:
            await link(session, ("person", loser), "fan", ("organization", shop))

    async with marketing.session() as session:
        await merging.merge(session, UUID(winner), UUID(loser), by=CLI)
        waiting = asyncio.create_task(attempt())
        await marketing.until_blocked()
    await waiting
    async with marketing.session() as session:
        assert await stored(session) == {(f"person:{winner}", "fan", f"organization:{shop}")}


async def test_a_merge_keeps_each_association_once_and_undoing_gives_all_back(
    database: Database, tenant_id: UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        await define(session, "boss", "person", "organization", "many_to_one")
        await define(session, "mentor", "person", "person", "one_to_many")
        winner, loser, friend = await add(session, "person", 3)
        shop, farm = await add(session, "organization", 2)
        won, lost = ("person", winner), ("person", loser)
        for person in (won, lost):
            await link(session, person, "fan", ("organization", shop))
        await link(session, lost, "fan", ("organization", farm))
        await link(session, won, "boss", ("organization", shop))
        await link(session, lost, "boss", ("organization", farm))
        await link(session, won, "knows", lost)
        await link(session, lost, "knows", won)
        await link(session, lost, "knows", ("person", friend))
        await link(session, ("person", friend), "mentor", lost)
        before = await stored(session)
    async with database.tenant(tenant_id) as session:
        merged = await merging.merge(session, UUID(winner), UUID(loser), by=CLI)
    async with database.tenant(tenant_id) as session:
        assert await stored(session) == {
            (f"person:{winner}", "fan", f"organization:{shop}"),
            (f"person:{winner}", "fan", f"organization:{farm}"),
            (f"person:{winner}", "boss", f"organization:{shop}"),
            (f"person:{winner}", "knows", f"person:{friend}"),
            (f"person:{friend}", "mentor", f"person:{winner}"),
        }
        shown = await timeline.page(session, UUID(winner), limit=100)
        assert not [entry for entry in shown if entry.kind == "event" and entry.type.startswith("association.")]
    async with database.tenant(tenant_id) as session:
        await unmerging.undo(session, merged.id, by=CLI)
    async with database.tenant(tenant_id) as session:
        assert await stored(session) == before


async def test_a_deleted_record_is_parted_from_all_and_they_hear_of_it(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        things = await one_of_each(session)
        object_id = await add_object(session, "note")
        notes = await add(session, "record", 2, object_id=object_id)
        for note in notes:
            await link(session, ("person", things["person"]), "wrote", ("record", note))
        await link(session, ("record", notes[0]), "answers", ("record", notes[1]))
        await link(session, ("record", notes[1]), "about", ("organization", things["organization"]))
        kept = await link(session, ("person", things["person"]), "wrote", ("record", things["record"]))
    async with database.tenant(tenant_id) as session:
        await records.delete(session, "note", UUID(notes[0]), by=CLI)
        gone = [event for event in await told(session) if event.type == "association.deleted"]
        assert {(event.person_id, event.properties["label"], event.properties["object"]) for event in gone} == {
            (UUID(things["person"]), "wrote", "note"), (None, "answers", "note"),
        }  # fmt: skip
        assert await definitions.delete(session, "note", force=True, by=CLI) == 0
        assert await stored(session) == {(kept.from_end, "wrote", kept.to_end)}
        assert len([event for event in await told(session) if event.type == "association.deleted"]) == 4
