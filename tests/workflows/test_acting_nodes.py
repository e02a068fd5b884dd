"""What journeys do for people, on the real servers: segments and records, each domain's worker its own nodes."""

from sqlalchemy import select

from core.actor import CLI
from models import Record
from services.objects import definitions
from services.objects.wanted import Wanted
from tests.factories.marketing import walk
from tests.factories.running import Platform
from tests.factories.segmenting import Segments


async def test_segments_and_records_are_kept_and_seen_by_the_next_node(running: Platform) -> None:
    marketing = running.marketing
    kept = Segments(marketing)
    await kept.add("drivers")
    await kept.add("waiting")
    async with marketing.session() as session:
        schema = {"type": "object", "properties": {"vin": {"type": "string"}, "year": {"type": "integer"}}}
        await definitions.create(session, "car", Wanted(name="Car", schema=schema), by=CLI)
    linked = {"related": "record:car", "where": {"field": "record:car.year", "op": "=", "value": 2020}}
    both = {"all": [{"in_segment": "drivers"}, linked]}
    definition = walk(
        add={"type": "add_to_segment", "segment": "drivers", "next": "wait"},
        wait={"type": "add_to_segment", "segment": "waiting", "next": "create"},
        create={
            "type": "create_record",
            "object": "car",
            "label": "drives",
            "set": {"vin": "{{ person.email }}"},
            "next": "change",
        },
        change={"type": "update_record", "object": "car", "made_by": "create", "set": {"year": 2020}, "next": "look"},
        look={"type": "branch", "branches": [{"when": both, "next": "remove"}], "otherwise": "done"},
        remove={"type": "remove_from_segment", "segment": "waiting", "next": "done"},
    )
    people = await marketing.people(3)
    cohort = await marketing.walking(definition, people)
    async with running.worker():
        await running.deliver()
        await running.finished(cohort)
    assert (await kept.members("drivers"), await kept.members("waiting")) == (set(people), set())
    async with marketing.session() as session:
        made = await session.scalars(select(Record.properties).where(Record.tenant_id == marketing.tenant_id))
        assert sorted(made, key=lambda each: each["vin"]) == [
            {"vin": f"{each}@example.com", "year": 2020} for each in sorted(map(str, people))
        ]
