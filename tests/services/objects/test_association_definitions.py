"""What labels may link, and what becomes of what is linked already."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from core.actor import CLI
from core.database import Database, TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id
from models import Activity, Association, AssociationDefinition
from services.identity import merging
from services.objects import association_definitions, linking
from tests.factories.linking import KINDS, add, add_object, add_one, new, stored


def fields(label: str, start: str = "person", to: str = "organization", **more: object) -> dict[str, Any]:
    return {"label": label, "from_type": start, "to_type": to, **more}


async def link(session: TenantSession, label: str, *pairs: tuple[str, str]) -> list[linking.Outcome]:
    wanted = [new(("person", person), label, ("organization", shop)) for person, shop in pairs]
    return await linking.create_all(session, wanted, by=CLI)


async def crowd(session: TenantSession) -> tuple[list[str], list[str]]:
    """Three people, each linked to the first of two organizations, and the first also to the second."""
    people, shops = await add(session, "person", 3), await add(session, "organization", 2)
    await link(session, "fan", *((person, shops[0]) for person in people), (people[0], shops[1]))
    return people, shops


async def test_a_label_is_held_to_its_types(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        things: dict[str, tuple[str, str]] = {}
        for kind in KINDS:
            object_id = await add_object(session, "request") if kind == "record" else None
            things["record:request" if kind == "record" else kind] = (
                kind, await add_one(session, kind, object_id=object_id),
            )  # fmt: skip
        other = await add_object(session, "other")
        things["record:other"] = ("record", await add_one(session, "record", object_id=other))
        start = ("person", await add_one(session, "person"))
        for kind in things:
            await association_definitions.create(session, fields(f"to-{kind[-5:]}", "person", kind), by=CLI)
        for kind in things:
            wanted = [new(start, f"to-{kind[-5:]}", thing) for thing in things.values()]
            found = await linking.create_all(session, wanted, by=CLI)
            assert [outcome.created for outcome in found] == [other == kind for other in things]
            for outcome, name in zip(found, things, strict=True):
                if outcome.error is not None:
                    assert outcome.error.errors[0].field == "to.type"
                    assert f"must be {kind}" in outcome.error.errors[0].reason
                    assert f"is {name}" in outcome.error.errors[0].reason


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("record:none", "no object none"),
        ("record:", "no object"),
        ("record", "record:KEY"),
        ("thing", "record:KEY"),
        ("", "must be"),
    ],
)
async def test_a_type_that_is_none_is_refused(database: Database, tenant_id: UUID, kind: str, reason: str) -> None:
    async with database.tenant(tenant_id) as session:
        for field in ("from_type", "to_type"):
            with pytest.raises(InvalidError, match=reason) as refused:
                await association_definitions.create(session, fields("x") | {field: kind}, by=CLI)
            assert refused.value.errors[0].field == field
        assert (await association_definitions.page(session, limit=10, after=None)) == []


async def test_a_definition_that_what_is_linked_breaks_is_refused_with_what(
    database: Database, tenant_id: UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        people, shops = await crowd(session)
        ids = {
            (row.from_end, row.to_end): str(row.id)
            for row in await session.scalars(select(Association).where(Association.tenant_id == tenant_id))
        }
    broken: list[tuple[dict[str, Any], int, list[dict[str, Any]]]] = [
        (
            fields("fan", cardinality="one_to_many"),
            1,
            [
                {
                    "end": f"organization:{shops[0]}",
                    "associations": 3,
                    "ids": sorted(ids[f"person:{person}", f"organization:{shops[0]}"] for person in people),
                }
            ],
        ),
        (
            fields("fan", cardinality="many_to_one"),
            1,
            [
                {
                    "end": f"person:{people[0]}",
                    "associations": 2,
                    "ids": sorted(ids[f"person:{people[0]}", f"organization:{shop}"] for shop in shops),
                }
            ],
        ),
        (
            fields("fan", "organization", "person"),
            4,
            [
                {"association_id": each, "from": pair[0], "to": pair[1]}
                for pair, each in sorted(ids.items(), key=lambda item: item[1])
            ],
        ),
    ]
    for wanted, count, samples in broken:
        async with database.tenant(tenant_id) as session:
            with pytest.raises(ConflictError) as refused:
                await association_definitions.create(session, wanted, by=CLI)
            await session.rollback()
        assert refused.value.extra == {"count": count, "samples": samples}
    async with database.tenant(tenant_id) as session:
        assert await association_definitions.page(session, limit=10, after=None) == []


async def test_tightening_is_refused_or_holds_from_then_on_and_loosening_frees(
    database: Database, tenant_id: UUID
) -> None:
    async with database.tenant(tenant_id) as session:
        people, shops = await crowd(session)
        made = await association_definitions.create(session, fields("fan"), by=CLI)
    async with database.tenant(tenant_id) as session:
        with pytest.raises(ConflictError, match="1 things have more than one"):
            await association_definitions.update(session, made.id, {"cardinality": "one_to_one"}, by=CLI)
        await session.rollback()
    async with database.tenant(tenant_id) as session:
        assert (await association_definitions.get(session, made.id)).cardinality == "many_to_many"
        spare, farm = await add_one(session, "person"), await add_one(session, "organization")
        (first,) = await link(session, "boss", (spare, farm))
        boss = await association_definitions.create(session, fields("boss"), by=CLI)
        await association_definitions.update(session, boss.id, {"cardinality": "one_to_one"}, by=CLI)
        pairs = [(spare, shops[0]), (people[0], farm), (people[1], shops[1])]
        found = await link(session, "boss", *pairs)
        assert [outcome.created for outcome in found] == [False, False, True]
        assert found[0].error is not None
        assert found[0].error.extra == {"association_id": str(first.association_id)}
        await association_definitions.update(session, boss.id, {"cardinality": "one_to_many"}, by=CLI)
        assert [outcome.created for outcome in await link(session, "boss", *pairs[:2])] == [True, False]
        await association_definitions.delete(session, boss.id, by=CLI)
        assert [outcome.created for outcome in await link(session, "boss", *pairs[:2])] == [False, True]
        with pytest.raises(NotFoundError):
            await association_definitions.get(session, boss.id)
        logged = await session.scalars(
            select(Activity.type).where(
                Activity.tenant_id == tenant_id, Activity.subject_type == "association_definition",
                Activity.subject_id == boss.id,
            ).order_by(Activity.id)
        )  # fmt: skip
        assert [verb.removeprefix("association_definition.") for verb in logged] == [
            "created", "updated", "updated", "deleted",
        ]  # fmt: skip


async def test_a_label_is_defined_once_and_so_many_at_most(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(association_definitions, "MAX_DEFINITIONS", 2)
    async with database.tenant(tenant_id) as session:
        await association_definitions.create(session, fields("one"), by=CLI)
        with pytest.raises(ConflictError, match="defined already") as refused:
            await association_definitions.create(session, fields("one"), by=CLI)
        assert refused.value.errors[0].field == "label"
        await association_definitions.create(session, fields("two"), by=CLI)
        with pytest.raises(ConflictError, match="at most 2"):
            await association_definitions.create(session, fields("three"), by=CLI)
        with pytest.raises(NotFoundError):
            await association_definitions.update(session, new_id(), {"description": "x"}, by=CLI)


async def test_a_definition_waits_for_what_is_being_linked(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        people, shops = await add(session, "person", 2), await add(session, "organization", 2)

    async def define() -> AssociationDefinition:
        async with database.tenant(tenant_id) as session:
            return await association_definitions.create(session, fields("boss", cardinality="one_to_one"), by=CLI)

    async with database.tenant(tenant_id) as session:
        await link(session, "boss", *((person, shops[0]) for person in people))
        waiting = asyncio.create_task(define())
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
    with pytest.raises(ConflictError, match="more than one"):
        await waiting


async def test_a_merge_respects_what_a_tightened_label_allows(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        people, shops = await add(session, "person", 2), await add(session, "organization", 2)
        await link(session, "boss", *zip(people, shops, strict=True))
        await association_definitions.create(session, fields("boss", cardinality="many_to_one"), by=CLI)
    async with database.tenant(tenant_id) as session:
        await merging.merge(session, UUID(people[0]), UUID(people[1]), by=CLI)
    async with database.tenant(tenant_id) as session:
        assert await stored(session) == {(f"person:{people[0]}", "boss", f"organization:{shops[0]}")}
