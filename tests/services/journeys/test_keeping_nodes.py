"""Nodes that keep segments and records: each once for each member, judged by the object's schema, seen by the next."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from core.actor import CLI
from core.errors import InvalidError
from models import Activity, Association, EnrollmentStep, Event, Record
from services.journeys import steps
from services.journeys.steps import StepOutcome
from services.marketing import journey_sends
from services.marketing.segments import definitions as segments
from services.objects import association_definitions, definitions, records
from services.objects.wanted import Wanted
from tests.factories.marketing import Marketing, Walking, event, walk
from tests.factories.segmenting import Segments
from tests.factories.selling import Selling
from tests.services.identity.statements import recorded

CAR = {
    "type": "object",
    "properties": {
        "vin": {"type": "string"},
        "year": {"type": "integer", "minimum": 1900},
        "owner": {"type": "string", "maxLength": 20},
        "tags": {"type": "array", "items": {"type": "string"}},
        "bought": {"type": "string", "format": "date-time"},
        "extra": {"type": "object"},
        "code": {"type": "string"},
    },
    "required": ["vin"],
    "additionalProperties": False,
}
ENTRY = {"event": "car.seen", "again": {"mode": "always"}}


async def cars(marketing: Marketing, **more: Any) -> None:  # noqa: ANN401
    async with marketing.session() as session:
        wanted = Wanted(name="Car", schema=CAR, unique=["vin"], **more)
        await definitions.create(session, "car", wanted, by=CLI)


async def all_of(marketing: Marketing, entity: Any) -> list[Any]:  # noqa: ANN401 - rows of a table
    async with marketing.session() as session:
        return list(await session.scalars(select(entity).where(entity.tenant_id == session.tenant_id)))


async def detail(cohort: Walking, node: str, slot: int = 0) -> Any:  # noqa: ANN401 - JSON
    row = await cohort.row(slot)
    async with cohort.marketing.session() as session:
        return (await session.get_one(EnrollmentStep, (session.tenant_id, row.id, node, 1))).detail


async def entered(marketing: Marketing, definition: dict[str, Any], *seen: tuple[UUID, dict[str, Any]]) -> Walking:
    """Let people in by events with these properties."""
    version = await marketing.journey(definition | {"entry": ENTRY})
    await marketing.hear(*(event("car.seen", person_id, **properties) for person_id, properties in seen))
    (cohort,) = await marketing.cohorts(version)
    return cohort


async def test_people_are_put_into_a_segment_and_taken_out_once(marketing: Marketing) -> None:
    kept = Segments(marketing)
    await kept.add("hot")
    one, two, three = sorted(await marketing.people(3))
    async with marketing.session() as session:
        hot = await segments.find(session, "hot")
        await segments.membership.add(session, hot, [three], by=CLI)
    cohort = await marketing.walking(
        walk(
            add={"type": "add_to_segment", "segment": "hot", "next": "drop"},
            drop={"type": "remove_from_segment", "segment": "hot", "next": "done"},
        ),
        [one, two, three],
    )
    assert await cohort.run("act", "add") == StepOutcome(outcomes={"done": 0b111})
    assert await kept.members("hot") == {one, two, three}
    async with marketing.session() as session:
        await segments.membership.remove(session, await segments.find(session, "hot"), [one], by=CLI)
    assert await cohort.run("act", "add", attempt=2) == StepOutcome(outcomes={"done": 0b111})
    assert await kept.members("hot") == {two, three}  # what was done is done once
    assert (await detail(cohort, "add"), await detail(cohort, "add", 2)) == (None, {"unchanged": True})
    await cohort.run("act", "drop")
    assert await kept.members("hot") == set()
    assert await detail(cohort, "drop") == {"unchanged": True}
    told = [(each.type, each.subject_id) for each in await all_of(marketing, Event) if each.type.startswith("segment.")]
    # by hand and by the journey; each change once
    assert sorted(told) == sorted(
        [("segment.entered", each) for each in (one, two, three)]
        + [("segment.left", each) for each in (one, two, three)]
    )
    logged = [row for row in await all_of(marketing, Activity) if row.type.startswith("segment.people")]
    assert {row.actor.split(":")[0] for row in logged} == {"cli", "journey"}


async def test_a_deal_without_a_person_goes_on(marketing: Marketing) -> None:
    selling = Selling(marketing.database, marketing.tenant_id)
    stages = await selling.pipeline()
    await Segments(marketing).add("hot")
    await cars(marketing)
    person = await marketing.person()
    deals = [await selling.deal(stages["new"]), await selling.deal(stages["new"], person_id=person)]
    add = {"type": "add_to_segment", "segment": "hot", "next": "car"}
    car = {
        "type": "create_record",
        "object": "car",
        "set": {"vin": "{{ deal.id }}", "owner": "{{ person.first_name }}"},
        "label": "about",
        "next": "change",
    }
    change = {"type": "update_record", "object": "car", "set": {"year": 2001}, "next": "done"}
    definition = {**walk(entry={**ENTRY, "event": "deal.moved"}, add=add, car=car, change=change), "subject": "deal"}
    cohort = await marketing.walking(definition, deals)
    await cohort.run("act", "add")
    assert await Segments(marketing).members("hot") == {person}
    assert await detail(cohort, "add", 0) == {"refused": "no_person"}
    await cohort.run("act", "car")
    await cohort.run("act", "change")
    made = {row.properties["vin"]: row.properties for row in await all_of(marketing, Record)}
    assert made == {str(each): {"vin": str(each), "year": 2001} for each in deals}
    linked = await all_of(marketing, Association)
    assert {row.from_deal_id for row in linked} == set(deals)


async def test_a_record_is_made_once_linked_and_seen_by_the_next_node(marketing: Marketing) -> None:
    await cars(marketing)
    create = {
        "type": "create_record",
        "object": "car",
        "set": {
            "vin": "{{ entry.vin }}",
            "year": "{{ entry.year }}",
            "owner": "Of {{ person.first_name }}",
            "tags": ["new", "{{ entry.trim }}"],
            "bought": "{{ entry.nothing }}",
            "extra": {"entry": "{{ entry.more }}"},
            "code": "{{ entry.code }}",
        },
        "label": "drives",
        "next": "look",
    }
    look = {
        "type": "branch",
        "branches": [
            {
                "when": {"related": "record:car", "where": {"field": "record:car.year", "op": "=", "value": 2021}},
                "next": "change",
            }
        ],
        "otherwise": "done",
    }
    change = {
        "type": "update_record",
        "object": "car",
        "made_by": "create",
        "set": {"owner": None, "code": "{{ person.attributes.none }}", "tags": ["old"]},
        "next": "done",
    }
    one, two = await marketing.people(2, first_name="Ann")
    cohort = await entered(
        marketing,
        walk(create=create, look=look, change=change),
        (one, {"vin": "A1", "year": "2021", "trim": "sport", "more": [1, {"a": None}], "code": 7.50}),
        (two, {"vin": "B2", "year": 2021, "trim": "plain"}),
    )
    done = await cohort.run("act", "create")
    assert done == StepOutcome(outcomes={"done": 0b11})
    assert await cohort.run("act", "create", attempt=2) == done
    made = {row.properties["vin"]: row for row in await all_of(marketing, Record)}
    assert {vin: row.properties for vin, row in made.items()} == {
        "A1": {
            "vin": "A1",
            "year": 2021,
            "owner": "Of Ann",
            "tags": ["new", "sport"],
            "extra": {"entry": [1, {"a": None}]},
            "code": "7.5",
        },
        "B2": {"vin": "B2", "year": 2021, "owner": "Of Ann", "tags": ["new", "plain"], "extra": {"entry": None}},
    }
    assert await detail(cohort, "create") == {"record_id": str(made["A1"].id)}
    links = await all_of(marketing, Association)
    assert {(row.from_person_id, row.label, row.to_record_id) for row in links} == {
        (one, "drives", made["A1"].id),
        (two, "drives", made["B2"].id),
    }
    assert (await cohort.run("act", "look")).outcomes == {"branch_0": 0b11}
    await cohort.run("act", "change")
    after = {row.properties["vin"]: row.properties for row in await all_of(marketing, Record)}
    assert after["A1"] == {
        "vin": "A1",
        "year": 2021,
        "tags": ["old"],
        "extra": {"entry": [1, {"a": None}]},
        "code": "7.5",
    }
    kinds = [each.type for each in await all_of(marketing, Event) if each.type.startswith("record.")]
    assert sorted(kinds) == ["record.created"] * 2 + ["record.updated"] * 2


async def test_what_the_schema_refuses_stops_nobody(marketing: Marketing) -> None:
    await cars(marketing)
    one, two, three = await marketing.people(3)
    create = {
        "type": "create_record",
        "object": "car",
        "set": {"vin": "{{ entry.vin }}", "year": "{{ entry.year }}"},
        "label": "drives",
        "next": "change",
    }
    change = {"type": "update_record", "object": "car", "set": {"year": 2000}, "next": "done"}
    cohort = await entered(
        marketing,
        walk(create=create, change=change),
        (one, {"vin": "A1", "year": "soon"}),
        (two, {"year": 2000}),
        (three, {"vin": "C3", "year": 1950}),
    )
    assert (await cohort.run("act", "create")).outcomes == {"done": 0b111}
    by_person = {row.subject_id: row.slot for row in await cohort.rows()}
    refused = [await detail(cohort, "create", by_person[each]) for each in (one, two)]
    assert refused == [
        {"refused": "properties.year: must be an integer"},
        {"refused": "properties.vin: is required"},
    ]
    assert [row.properties["vin"] for row in await all_of(marketing, Record)] == ["C3"]
    await cohort.run("act", "change")
    assert await detail(cohort, "change", by_person[one]) == {"refused": "no_record"}
    assert [row.properties["year"] for row in await all_of(marketing, Record)] == [2000]


async def test_records_are_found_by_a_unique_value_or_made(marketing: Marketing) -> None:
    await cars(marketing)
    async with marketing.session() as session:
        ends = {"from_type": "record:car", "to_type": "person", "cardinality": "one_to_one"}
        await association_definitions.create(session, {"label": "driver", **ends}, by=CLI)
        old = (await records.create(session, "car", {"vin": "A1", "year": 1999}, by=CLI)).id
    one, two = await marketing.people(2)
    upsert = {
        "type": "create_record",
        "object": "car",
        "match": "vin",
        "set": {"vin": "{{ entry.vin }}", "owner": "new"},
        "label": "driver",
        "next": "change",
    }
    change = {
        "type": "update_record",
        "object": "car",
        "match": {"vin": "{{ entry.vin }}"},
        "set": {"year": 2005},
        "next": "gone",
    }
    gone = {"type": "update_record", "object": "car", "match": {"vin": "none"}, "set": {"year": 2006}, "next": "done"}
    cohort = await entered(
        marketing, walk(upsert=upsert, change=change, gone=gone), (one, {"vin": "A1"}), (two, {"vin": "A1"})
    )
    await cohort.run("act", "upsert")
    (row,) = await all_of(marketing, Record)
    assert (row.id, row.properties) == (old, {"vin": "A1", "year": 1999, "owner": "new"})
    (link,) = await all_of(marketing, Association)  # a car has one driver: the second is told
    assert (link.from_record_id, link.to_person_id) == (old, one)
    said = [await detail(cohort, "upsert", slot) for slot in (0, 1)]
    assert said[0] == {"record_id": str(old)}
    assert "may have one association labelled driver" in said[1]["not_linked"]
    await cohort.run("act", "change")
    await cohort.run("act", "gone")
    assert [row.properties["year"] for row in await all_of(marketing, Record)] == [2005]
    assert await detail(cohort, "gone") == {"refused": "no_record"}


async def test_the_newest_linked_record_is_meant(marketing: Marketing) -> None:
    await cars(marketing)
    one = await marketing.person()
    made: list[UUID] = []
    for vin, label in (("A1", "drives"), ("B2", "drives"), ("C3", "sold")):
        async with marketing.session() as session:
            record = await records.create(session, "car", {"vin": vin}, by=CLI)
            made.append(record.id)
            session.add(
                Association(
                    tenant_id=session.tenant_id, id=record.id, label=label, from_record_id=record.id, to_person_id=one
                )
            )
    change = {"type": "update_record", "object": "car", "set": {"year": 2000}, "label": "drives", "next": "last"}
    last = {"type": "update_record", "object": "car", "set": {"year": 2001}, "next": "done"}
    cohort = await marketing.walking(walk(change=change, last=last), [one])
    await cohort.run("act", "change")
    await cohort.run("act", "last")
    assert await detail(cohort, "change") == {"record_id": str(made[1])}
    assert await detail(cohort, "last") == {"record_id": str(made[2])}


async def test_what_a_journey_keeps_is_checked_when_it_is_written(marketing: Marketing) -> None:
    await cars(marketing)
    kept = Segments(marketing)
    await kept.add("moving", {"field": "person.is_customer", "op": "=", "value": True})
    async with marketing.session() as session:
        ends = {"from_type": "record:car", "to_type": "organization"}
        await association_definitions.create(session, {"label": "fleet", **ends}, by=CLI)
    record = {"type": "create_record", "object": "car", "label": "drives", "next": "done"}
    nodes = {
        "a": {"type": "add_to_segment", "segment": "moving", "next": "b"},
        "b": {"type": "remove_from_segment", "segment": "none", "next": "c"},
        "c": {**record, "set": {"year": 1800, "colour": "red", "owner": "{{ deal.id }}"}, "next": "d"},
        "d": {
            **record,
            "set": {"vin": None, "hue": "{{ person.email }}"},
            "label": "fleet",
            "match": "owner",
            "next": "e",
        },
        "e": {"type": "update_record", "object": "bike", "set": {"id": 1}, "made_by": "a", "next": "f"},
        "f": {"type": "update_record", "object": "car", "set": {"vin": None}, "match": {"year": 5}, "next": "done"},
    }
    with pytest.raises(InvalidError) as refused:
        await marketing.journey(walk(**nodes))
    reasons = {problem.field.removeprefix("definition.nodes."): problem.reason for problem in refused.value.errors}
    assert reasons == {
        "a.segment": "moving is dynamic: its rules say who is in it, and nobody can be put in or taken out",
        "b.segment": "there is no segment none",
        "c.set.colour": "is not a property of this object",
        "c.set.owner": "{{ deal.id }}: deal is not available here; available are entry, person",
        "c.set.vin": "is required",
        "c.set.year": reasons["c.set.year"],
        "d.label": "fleet links record:car to organization, and not record:car to person",
        "d.match": "owner must be among the properties in set",
        "d.set.hue": "is not a property of this object",
        "d.set.vin": "is required",
        "e.made_by": "a is no create_record node of bike in this journey",
        "e.object": "there is no object bike",
        "f.match.year": "year is not a unique property of car",
        "f.set.vin": "is required",
    }
    assert "1900" in reasons["c.set.year"]


async def test_a_segment_that_a_journey_changes_is_not_deleted(marketing: Marketing) -> None:
    await Segments(marketing).add("hot")
    await marketing.journey(walk(add={"type": "add_to_segment", "segment": "hot", "next": "done"}))
    async with marketing.session() as session:
        assert await segments.usage.of(session, "hot") == [("journey", "journey")]


async def test_a_thousand_records_take_a_few_statements(marketing: Marketing) -> None:
    await cars(marketing)
    create = {
        "type": "create_record",
        "object": "car",
        "set": {"vin": "{{ person.id }}"},
        "label": "drives",
        "next": "done",
    }
    cohort = await marketing.walking(walk(create=create), await marketing.people(1_500, consent=False))
    async with marketing.session() as session:
        step = steps.Step(cohort.version, "act", "create", 1, timed_out=False, attempt=1, actions=journey_sends.ACTIONS)
        with recorded() as ran:
            done = await steps.run(session, step, cohort.members(), isolating=False)
    assert done.outcomes == {"done": cohort.members().mask}
    assert len(ran) < 60
