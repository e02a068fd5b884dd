"""Scenarios of moving people between versions, for `tests.histories.record`."""

from typing import Any

from tests.factories import publishing
from tests.factories.marketing import Walking, walk
from tests.factories.running import Platform

DAYS: dict[str, Any] = {"type": "wait", "for": "P30D", "next": "mark"}
MARK: dict[str, Any] = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}


async def migration(running: Platform) -> str:
    """Some people in two pages."""
    marketing = running.marketing
    await marketing.walking(walk(nap=DAYS, mark=MARK), await marketing.people(3))
    _, migration_id = await publishing.publish(marketing, walk(nap={**DAYS, "for": "P1D"}, mark=MARK))
    running.page = 2
    async with running.worker():
        return await running.migrate(migration_id)


async def migration_failed(running: Platform) -> str:
    """One that the store refuses to go on with."""
    marketing = running.marketing
    await marketing.walking(walk(nap=DAYS, mark=MARK), await marketing.people(1))
    _, migration_id = await publishing.publish(marketing, walk(nap={**DAYS, "for": "P1D"}, mark=MARK))
    name = f"refuse_{migration_id.hex}"
    async with marketing.superuser() as connection:
        await connection.execute(f"""
            CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              IF NEW.id = '{migration_id}' AND NEW.status <> 'failed' THEN
                RAISE EXCEPTION 'refused' USING ERRCODE = '22023';
              END IF;
              RETURN NEW;
            END $$;
            CREATE TRIGGER {name} BEFORE UPDATE ON journey_migration FOR EACH ROW EXECUTE FUNCTION {name}();
        """)
        try:
            async with running.worker():
                return await running.migrate(migration_id)
        finally:
            await connection.execute(f"DROP TRIGGER {name} ON journey_migration; DROP FUNCTION {name}()")


async def moved(running: Platform) -> Walking:
    """A cohort that begins in the middle of a journey, where its members stand."""
    marketing = running.marketing
    old = await marketing.walking(walk(nap=DAYS, mark=MARK), await marketing.people(3))
    version, migration_id = await publishing.publish(marketing, walk(nap={**DAYS, "for": "PT1S"}, mark=MARK))
    async with running.worker():
        await running.deliver()
        await running.settled(old, nap={"waiting": 3})
        await running.migrate(migration_id)
        await running.finished(old)
        (cohort,) = await marketing.cohorts(version)
        await running.finished(cohort)
    return cohort


SCENARIOS = (migration, migration_failed, moved)
