"""Scenarios of events that take people off their waits, for `tests.histories.record`."""

import pytest
from temporalio import workflow
from temporalio.worker import Interceptor

from tests.factories.marketing import Walking, event, walk
from tests.factories.running import Hasty, Platform

LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "P30D", "matched": "mark", "timed_out": "done"}
MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "again"}
AGAIN = {
    "type": "wait_until",
    "any": [{"event": "page.viewed", "next": "done"}],
    "timeout": "P30D",
    "timed_out": "done",
}


async def _heard(running: Platform, *interceptors: Interceptor) -> Walking:
    """One after the other hears of both events; the last while paused."""
    marketing = running.marketing
    people = await marketing.people(3)
    cohort = await marketing.walking(walk(listen=LISTEN, mark=MARK, again=AGAIN), people)
    async with running.worker(cached=0, interceptors=interceptors):
        await running.deliver()
        await running.settled(cohort, listen={"waiting": 3})
        await marketing.hear(event("order.placed", people[0]))
        await running.deliver()
        await running.settled(cohort, listen={"waiting": 2}, again={"waiting": 1})
        await marketing.hear(event("page.viewed", people[0]), event("order.placed", people[1]))
        await running.deliver()
        await running.settled(cohort, listen={"waiting": 1}, again={"waiting": 1})
        await marketing.hear_paused(event("order.placed", people[2]))
        await running.deliver()
        await running.settled(cohort, again={"waiting": 2})
        await marketing.hear(*(event("page.viewed", person) for person in people[1:]))
        await running.deliver()
        await running.finished(cohort)
    return cohort


async def heard(running: Platform) -> Walking:
    """As it is now: they go on from where the event brought them."""
    return await _heard(running)


async def continued_heard(running: Platform) -> Walking:
    """The same in several runs."""
    return await _heard(running, Hasty())


async def heard_before(running: Platform) -> Walking:
    """The same with a worker of the version before, which had a step run for each: it knew no patch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "patched", _knows_none)
        return await _heard(running)


def _knows_none(_patch: str) -> bool:
    return False


SCENARIOS = (heard, continued_heard, heard_before)
