"""Fields of many people set at once: as if each had been changed by hand."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from core.actor import Actor
from core.ids import new_id
from core.wake import EVENT_CHANNEL
from models import Activity, Event, Person
from services.identity import bulk
from tests.factories.marketing import Marketing
from tests.services.identity.statements import recorded

JOURNEY = Actor.journey(new_id())


async def set_fields(
    marketing: Marketing,
    people: list[UUID],
    fields: dict[str, Any] | None = None,
    **attributes: Any,  # noqa: ANN401
) -> int:
    async with marketing.session() as session:
        return await bulk.set_fields(session, people, fields=fields or {}, attributes=attributes, by=JOURNEY)


async def person(marketing: Marketing, person_id: UUID) -> Person:
    async with marketing.session() as session:
        return await session.get_one(Person, (marketing.tenant_id, person_id))


async def reports(marketing: Marketing) -> list[tuple[UUID, dict[str, Any], str]]:
    async with marketing.session() as session:
        logged = await session.scalars(
            select(Activity)
            .where(Activity.tenant_id == marketing.tenant_id, Activity.type == "person.updated")
            .order_by(Activity.id)
        )
        return [(row.subject_id, row.changes, row.actor) for row in logged]


async def published(marketing: Marketing) -> list[tuple[UUID, list[str]]]:
    async with marketing.session() as session:
        events = await session.scalars(
            select(Event).where(Event.tenant_id == marketing.tenant_id).order_by(Event.position)
        )
        return [(row.subject_id, row.properties["fields"]) for row in events if row.type == "person.updated"]


async def test_fields_and_attributes_are_set_and_reported(marketing: Marketing) -> None:
    one = await marketing.person(attributes={"plan": "free", "kept": 1}, locale="en")
    assert await set_fields(marketing, [one], {"locale": "de"}, plan="pro", vip=True) == 1
    changed = await person(marketing, one)
    assert (changed.locale, changed.attributes) == ("de", {"plan": "pro", "kept": 1, "vip": True})
    changes = {"locale": ["en", "de"], "attributes.plan": ["free", "pro"], "attributes.vip": [None, True]}
    assert await reports(marketing) == [(one, changes, JOURNEY.name)]
    assert [(who, sorted(fields)) for who, fields in await published(marketing)] == [
        (one, ["attributes.plan", "attributes.vip", "locale"])
    ]


async def test_only_those_who_change_are_reported(marketing: Marketing) -> None:
    same = await marketing.person(attributes={"plan": "pro"})
    other = await marketing.person()
    before = await person(marketing, same)
    assert await set_fields(marketing, [same, other], plan="pro") == 1
    assert [who for who, *_ in await reports(marketing)] == [other]
    assert [who for who, _ in await published(marketing)] == [other]
    assert (await person(marketing, same)).updated_at == before.updated_at
    assert await set_fields(marketing, [same, other], plan="pro") == 0


async def test_null_removes(marketing: Marketing) -> None:
    one = await marketing.person(attributes={"plan": "pro", "kept": 1}, first_name="Ann")
    assert await set_fields(marketing, [one], {"first_name": None}, plan=None, absent=None) == 1
    changed = await person(marketing, one)
    assert (changed.first_name, changed.attributes) == (None, {"kept": 1})
    [(_, changes, _)] = await reports(marketing)
    assert changes == {"first_name": ["Ann", None], "attributes.plan": ["pro", None]}


async def test_an_attribute_named_like_a_field_is_told_from_it(marketing: Marketing) -> None:
    one = await marketing.person(first_name="Ann", attributes={"first_name": "old"})
    await set_fields(marketing, [one], {"first_name": "Bea"}, first_name="new")
    [(_, changes, _)] = await reports(marketing)
    assert changes == {"first_name": ["Ann", "Bea"], "attributes.first_name": ["old", "new"]}


async def test_true_is_not_one(marketing: Marketing) -> None:
    one = await marketing.person(attributes={"n": 1})
    assert await set_fields(marketing, [one], n=True) == 1
    assert (await person(marketing, one)).attributes == {"n": True}


async def test_other_people_and_other_tenants_are_left_alone(marketing: Marketing, other_tenant: Marketing) -> None:
    mine, theirs = await marketing.person(), await other_tenant.person()
    assert await set_fields(marketing, [theirs, new_id()], plan="pro") == 0
    assert (await person(other_tenant, theirs)).attributes == {}
    assert (await person(marketing, mine)).attributes == {}


async def test_many_take_one_statement(marketing: Marketing) -> None:
    people = await marketing.people(50)
    with recorded() as seen:
        assert await set_fields(marketing, people, {"locale": "de"}, plan="pro") == 50
    assert len(seen) == 1
    assert len(await reports(marketing)) == 50


async def test_the_relay_is_woken_for_what_changed_alone(marketing: Marketing) -> None:
    one = await marketing.person()
    async with marketing.session() as session:
        await bulk.set_fields(session, [one], fields={}, attributes={"a": 1}, by=JOURNEY)
        assert EVENT_CHANNEL in session.wakes
    async with marketing.session() as session:
        await bulk.set_fields(session, [one], fields={}, attributes={"a": 1}, by=JOURNEY)
        assert EVENT_CHANNEL not in session.wakes


async def test_a_field_that_is_not_settable_is_a_mistake(marketing: Marketing) -> None:
    one = await marketing.person()
    with pytest.raises(ValueError, match="email"):
        await set_fields(marketing, [one], {"email": "x@example.com"})


async def test_what_another_changed_meanwhile_is_kept_and_not_reported_as_ours(marketing: Marketing) -> None:
    one = await marketing.person()
    async with marketing.session() as other:
        await other.execute(
            update(Person)
            .where(Person.tenant_id == marketing.tenant_id, Person.id == one)
            .values(attributes=func.jsonb_build_object("theirs", 1))
        )
        ours = asyncio.create_task(set_fields(marketing, [one], ours=1))
        await marketing.until_blocked()
    assert await ours == 1
    assert (await person(marketing, one)).attributes == {"theirs": 1, "ours": 1}
    assert [changes for _, changes, _ in await reports(marketing)] == [{"attributes.ours": [None, 1]}]


async def test_two_who_change_the_same_people_do_not_deadlock(marketing: Marketing) -> None:
    people = await marketing.people(2)
    async with marketing.session() as other:
        lock = select(Person.id).where(Person.tenant_id == marketing.tenant_id).with_for_update(key_share=True)
        await other.execute(lock.where(Person.id == min(people)))
        ours = asyncio.create_task(set_fields(marketing, sorted(people, reverse=True), a=1))
        await marketing.until_blocked()
        await other.execute(lock.where(Person.id == max(people)))
    assert await ours == 2
