"""What people complain about elsewhere, by the numbers of the list of peers: versions of journeys."""

from journeys.migration import Instruction
from tests.factories.marketing import Marketing, walk
from tests.factories.publishing import migrate, publish

NAP = {"type": "wait", "for": "P30D", "next": "done"}


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
