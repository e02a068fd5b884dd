"""Record the histories in this folder again: `python -m tests.histories.record [NAME ...]`.

Each scenario walks cohorts through real servers; what the workflow was told and decided is kept as JSON beside this
file, a file for each run of a workflow. `tests/workflows/test_replay.py` replays all of them.

A recorded history stands for workflows that are running somewhere. When one no longer replays, the change to the
workflow or the planner would break those: guard it by `workflow.patched`, and add a scenario rather than record the old
ones anew. They are recorded anew only while nothing is deployed, or once no such workflow can be running any more.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from pydantic import SecretStr
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle, WorkflowHistory
from temporalio.worker import Interceptor

from core.actor import CLI
from core.database import Database
from core.settings import Settings
from core.temporal import connect
from integrations.geocoding.port import Location, UnreachableError
from services.journeys import endings, journeys
from services.journeys.members import ENROLLMENT
from services.tenancy import tenants
from tests import servers
from tests.eventually import eventually
from tests.factories.erasing import begun, erased, eraser
from tests.factories.geocoding import Scripted, geocoding
from tests.factories.marketing import Marketing, Walking, event, walk
from tests.factories.running import Hasty, Platform, platform
from tests.histories import (
    scenarios,
    scenarios_attribution,
    scenarios_campaigns,
    scenarios_checkout,
    scenarios_entries,
    scenarios_heard,
    scenarios_sales,
    scenarios_segments,
    scenarios_simulations,
    scenarios_versions,
    scenarios_webhooks,
)

FOLDER = Path(__file__).parent
CONTINUED = "continued"
"""Begins the names of scenarios whose histories need the early suggestion to continue as new."""

NODES: dict[str, dict[str, Any]] = {
    "hello": {"type": "send", "channel": "email", "template": "hello", "next": "listen"},
    "listen": {
        "type": "wait_for_event",
        "event": "order.placed",
        "timeout": "PT2S",
        "matched": "thank",
        "timed_out": "fork",
    },
    "fork": {
        "type": "branch",
        "branches": [{"when": {"field": "person.locale", "op": "=", "value": "de"}, "next": "thank"}],
        "otherwise": "nap",
    },
    "nap": {"type": "wait", "for": "PT1S", "next": "thank"},
    "thank": {"type": "update_person", "set": {"attributes.thanked": True}, "next": "rest"},
    "rest": {"type": "wait", "for": "P30D", "until_time": "09:00", "zone": "person", "next": "done"},
}
LOOP: dict[str, dict[str, Any]] = {
    "nap": {"type": "wait", "for": "PT1S", "next": "count"},
    "count": {
        "type": "branch",
        "branches": [{"when": {"field": "person.attributes.enough", "op": "=", "value": True}, "next": "done"}],
        "otherwise": "nap",
    },
}


async def one(running: Platform) -> Walking:
    """One person, alone, without signals."""
    marketing = running.marketing
    await marketing.template("hello")
    nodes = {**NODES, "rest": NODES["nap"] | {"next": "done"}}
    cohort = await marketing.walking(walk(**nodes), await marketing.people(1))
    async with running.worker():
        await running.deliver()
        await running.finished(cohort)
    return cohort


async def _many(running: Platform, size: int) -> Walking:
    """Members matched early, in time and not at all; paused, parked, retried, taken out; ended by cancelling."""
    marketing = running.marketing
    await marketing.template("hello")
    people = [
        await marketing.person(
            locale=("de", "en")[number % 2], time_zone=(None, "Asia/Tokyo", "America/Lima")[number % 3]
        )
        for number in range(size)
    ]
    cohort = await marketing.walking(walk(**NODES), people)
    rows = await cohort.rows()
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 2)
    async with marketing.refusing([rows[1].id]), running.worker():
        await running.deliver()
        await running.settled(cohort, hello={"parked": 1, "held": 1}, listen={"waiting": size - 2})
        await marketing.hear(event("order.placed", people[0]), event("order.placed", people[3]))
        await running.deliver()
        await running.settled(cohort, hello={"parked": 1, "held": 1}, listen={"waiting": size - 4}, rest={"waiting": 2})
    async with marketing.session() as session:
        await endings.retry(session, ENROLLMENT.c.slot == 1)
        await endings.resume(session, ENROLLMENT.c.slot == 2)
        await endings.end(session, ENROLLMENT.c.slot == 4, status="exited", reason="removed")
    await running.deliver()
    async with running.worker(cached=0):
        await running.settled(cohort, rest={"waiting": size - 1})
        async with marketing.session() as session:
            await journeys.cancel(session, await journeys.find(session, "journey"), by=CLI)
        await running.deliver()
        await running.finished(cohort)
    return cohort


async def small(running: Platform) -> Walking:
    """So few that steps are local activities."""
    return await _many(running, 6)


async def large(running: Platform) -> Walking:
    """So many that steps are activities."""
    return await _many(running, 60)


async def _undoable(running: Platform, size: int) -> Walking:
    marketing = running.marketing
    await marketing.template("hello")
    nodes = {"hello": NODES["hello"] | {"next": "done"}}
    cohort = await marketing.walking(walk(**nodes), await marketing.people(size))
    rename = "UPDATE template SET key = $2 WHERE tenant_id = $1"
    async with marketing.superuser() as connection:
        await connection.execute(rename, marketing.tenant_id, "gone")
        async with running.worker():
            await running.deliver()
            await running.settled(cohort, hello={"parked": size})
            await connection.execute(rename, marketing.tenant_id, "hello")
            async with marketing.session() as session:
                await endings.retry(session, ENROLLMENT.c.slot >= 0)
            await running.deliver()
            await running.finished(cohort)
    return cohort


async def undoable_small(running: Platform) -> Walking:
    """A step that nobody can do parks all until a retry; as a local activity."""
    return await _undoable(running, 2)


async def undoable_large(running: Platform) -> Walking:
    """A step that nobody can do parks all until a retry; as an activity."""
    return await _undoable(running, 60)


async def loop(running: Platform) -> Walking:
    """Some turns of a loop."""
    marketing = running.marketing
    people = await marketing.people(2)
    cohort = await marketing.walking(walk(**LOOP), people)
    async with running.worker():
        await running.deliver()
        while (await cohort.row()).visit < 3:  # noqa: ASYNC110 - the loop turns in the worker
            await asyncio.sleep(0.1)
        async with marketing.superuser() as connection:
            await connection.execute(
                """UPDATE person SET attributes = '{"enough": true}' WHERE tenant_id = $1""", marketing.tenant_id
            )
        await running.finished(cohort)
    return cohort


async def continued(running: Platform) -> Walking:
    """Several runs, each passing its state on."""
    marketing = running.marketing
    people = await marketing.people(4)
    nodes = {name: NODES[name] for name in ("listen", "fork", "nap")}
    nodes["listen"] = nodes["listen"] | {"timeout": "P1D", "matched": "nap"}
    nodes["nap"] = nodes["nap"] | {"next": "done"}
    nodes["fork"] = nodes["fork"] | {"branches": [{**nodes["fork"]["branches"][0], "next": "done"}]}
    cohort = await marketing.walking(walk(**nodes), people)
    interceptors: list[Interceptor] = [Hasty()]
    async with running.worker(cached=0, interceptors=interceptors):
        await running.deliver()
        for left, person in reversed(list(enumerate(people))):
            await marketing.hear(event("order.placed", person))
            await running.deliver()
            if left:
                await running.settled(cohort, listen={"waiting": left})
        await running.finished(cohort)
    return cohort


async def erasure(running: Platform) -> str:
    """Mail files of somebody erased, looked for while a sender holds a page, and once it let go."""
    marketing = running.marketing
    await marketing.template("hello")
    cohort = await marketing.walking(walk(hello=NODES["hello"] | {"next": "done"}), await marketing.people(1))
    await cohort.run("act", "hello")
    async with marketing.superuser() as connection:
        hold = "UPDATE message_page SET lease_owner = $2 WHERE tenant_id = $1"
        await connection.execute(hold, marketing.tenant_id, "somewhere:else")
        (message,) = await marketing.messages()
        assert message.person_id is not None
        record = await erased(marketing.database, marketing.tenant_id, message.person_id)
        async with eraser(running.client, marketing.database, Path("nowhere")) as worker:
            handle = await begun(worker, record)

            async def looked() -> bool:
                return any(event.HasField("timer_started_event_attributes") for event in await _events(handle))

            await eventually(looked)
            await connection.execute(hold, marketing.tenant_id, None)
            await handle.result()
    return handle.id


async def geocode(running: Platform) -> str:
    """Coordinates from a server that is away at first."""
    marketing = running.marketing
    wanted = await geocoding(marketing.database, running.client, marketing.tenant_id)
    handle = await wanted.begin()
    async with wanted.worker(Scripted([UnreachableError("away"), Location(50.94, 6.96, "building")])):
        await handle.result()
    return handle.id


async def _events(handle: WorkflowHandle[Any, Any]) -> Sequence[HistoryEvent]:
    return (await handle.fetch_history()).events


SCENARIOS: dict[str, Callable[[Platform], Awaitable[Walking | str]]] = {
    scenario.__name__: scenario
    for scenario in (
        *(one, small, large, undoable_small, undoable_large, loop, continued, erasure, geocode),
        *(scenarios.duplicates, scenarios.duplicates_cancelled, scenarios.scores),
        *scenarios_segments.SCENARIOS,
        *scenarios_campaigns.SCENARIOS,
        *scenarios_attribution.SCENARIOS,
        *scenarios_entries.SCENARIOS,
        *scenarios_heard.SCENARIOS,
        *scenarios_checkout.SCENARIOS,
        *scenarios_sales.SCENARIOS,
        *scenarios_webhooks.SCENARIOS,
        *scenarios_versions.SCENARIOS,
        *scenarios_simulations.SCENARIOS,
    )
}
"""Each walks a cohort, or has another workflow run, and returns the cohort or the workflow's id."""


async def runs(running: Platform, walked: Walking | str) -> list[WorkflowHistory]:
    """Return the histories of all runs of a workflow, the first one first."""
    workflow_id = walked if isinstance(walked, str) else running.reference(walked).workflow_id
    found = [await running.client.get_workflow_handle(workflow_id).fetch_history()]
    while previous := found[0].events[0].workflow_execution_started_event_attributes.continued_execution_run_id:
        handle = running.client.get_workflow_handle(workflow_id, run_id=previous)
        found.insert(0, await handle.fetch_history())
    return found


def anonymous(value: object) -> Any:  # noqa: ANN401 - JSON
    """Return JSON without what tells of the machine it was recorded on."""
    if isinstance(value, dict):
        return {
            name: "" if name in {"identity", "stackTrace"} else anonymous(inner)
            for name, inner in cast("dict[str, object]", value).items()
        }
    if isinstance(value, list):
        return [anonymous(inner) for inner in cast("list[object]", value)]
    return value


async def record(names: list[str]) -> None:
    """Walk these scenarios, all without a name, and write their histories."""
    template = servers.ask("postgres")
    url = await servers.create_database(template, f"{template.rsplit('/', 1)[1]}_record")
    settings = Settings(
        database_url=url,
        temporal_address=servers.ask("temporal"),
        secret_key=SecretStr("for recording, 32 letters or more"),
    )
    database, client = Database(url), await connect(settings)
    for name in names or list(SCENARIOS):
        async with database.system() as session:
            tenant = await tenants.create(session, f"record-{uuid4().hex}", "Record")
        async with platform(Marketing(database, tenant.id, url), client) as running:
            walked = await SCENARIOS[name](running)
            for old in FOLDER.glob(f"{name}.*.json"):
                old.unlink()
            for number, history in enumerate(await runs(running, walked), 1):
                text = json.dumps(anonymous(json.loads(history.to_json())), indent=1)
                (FOLDER / f"{name}.{number}.json").write_text(f"{text}\n")
                sys.stdout.write(f"{name}.{number}.json: {len(history.events)} events\n")
    await database.close()


if __name__ == "__main__":
    with servers.running():
        asyncio.run(record(sys.argv[1:]))
