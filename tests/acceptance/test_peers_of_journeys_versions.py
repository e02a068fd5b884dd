"""What people complain about elsewhere, by the numbers of the list of peers: versions of journeys."""

from core.actor import CLI
from journeys.migration import Instruction
from services.journeys import stuck
from tests.factories.marketing import Marketing, walk
from tests.factories.publishing import migrate, publish

NAP = {"type": "wait", "for": "P30D", "next": "done"}
SEND = {"type": "send", "channel": "email", "template": "hello", "next": "nap"}


async def test_row_01_nobody_is_stranded_when_steps_are_added_or_removed(marketing: Marketing) -> None:
    old = await marketing.walking(walk(nap=NAP), await marketing.people(3))
    added = {"type": "update_person", "set": {"attributes.added": True}, "next": "rest"}
    version, migration_id = await publish(
        marketing, walk(added=added, rest=NAP), nap=Instruction(do="move", to="added")
    )
    assert (await migrate(marketing, migration_id)).counts == {"move": 3}
    assert await old.rows() == []
    (new,) = await marketing.cohorts(version)
    assert (await new.run("act", "added", 2)).outcomes == {"done": 0b111}
    assert {(row.node, row.status) for row in await new.rows()} == {("rest", "waiting")}


async def test_row_07_a_run_that_stands_still_is_found_and_goes_on(marketing: Marketing) -> None:
    await marketing.template("hello")
    cohort = await marketing.walking(walk(send=SEND, nap=NAP), await marketing.people(3))
    async with marketing.superuser() as connection:
        await connection.execute(
            "UPDATE enrollment SET node_entered_at = now() - interval '3 hours' WHERE cohort_id = $1", cohort.cohort_id
        )
        await connection.execute(
            "UPDATE journey SET updated_at = now() - interval '1 day' WHERE id = $1", cohort.version.journey_id
        )
    async with marketing.session() as session:
        assert await stuck.still(session, [cohort.cohort_id]) == {cohort.cohort_id}
        await stuck.note(session, {cohort.cohort_id: "still"})
        assert await stuck.mend(session, cohort.cohort_id, "still", by=CLI) == 3
        assert await stuck.page(session, cohort.version.journey_id, after=None, limit=10) == []
    _, new = await marketing.cohorts(cohort.version)
    assert (await new.run("act", "send", 2)).outcomes == {"done": 0b111}
    assert (await cohort.run("act", "send")).outcomes == {}  # what the old one may still do
    assert len(await marketing.messages()) == 3
