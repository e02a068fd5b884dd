"""A journey of ten nodes, two of them waits and two branches, and walking it by its statements alone."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, text

from bench import walking
from bench.harness import Tenant
from core.actor import CLI
from journeys.members import everyone
from journeys.nodes import WaitNode
from models import Cohort, Segment
from services.journeys import steps
from services.journeys.members import CohortMembers
from services.journeys.versions import LoadedVersion
from services.marketing import journey_sends
from services.marketing.segments import definitions

TEMPLATES: Final = ("hello", "offer", "tip", "thanks")
ORDER: Final = ("hello", "pause", "half", "offer", "tip", "mark", "pause_again", "most", "thanks")
"""Those that somebody leaves: in this order nobody goes back."""


def _send(template: str, following: str) -> dict[str, Any]:
    return {"type": "send", "channel": "email", "template": template, "next": following}


def definition(people: int, *, pause: dict[str, Any], pause_again: dict[str, Any]) -> dict[str, Any]:
    """Return the journey for so many people, who wait at `pause` and at `pause_again` as is said there."""

    def above(share: float, there: str, otherwise: str) -> dict[str, Any]:
        condition = {"field": "person.attributes.n", "op": ">", "value": int(people * share)}
        return {"type": "branch", "branches": [{"when": condition, "next": there}], "otherwise": otherwise}

    return {
        "entry": {"api": True, "again": {"mode": "always"}},
        "start": "hello",
        "nodes": {
            "hello": _send("hello", "pause"),
            "pause": {"type": "wait", **pause, "next": "half"},
            "half": above(0.5, "offer", "tip"),
            "offer": _send("offer", "mark"),
            "tip": _send("tip", "mark"),
            "mark": {"type": "update_person", "set": {"attributes.offered": True}, "next": "pause_again"},
            "pause_again": {"type": "wait", **pause_again, "next": "most"},
            "most": above(0.25, "thanks", "done"),
            "thanks": _send("thanks", "done"),
            "done": {"type": "exit", "reason": "finished"},
        },
    }


async def segment(bench: Tenant, key: str, people: Sequence[UUID]) -> Segment:
    """Make a static segment of these people."""
    async with bench.database.tenant(bench.id) as session:
        made = await definitions.create(session, {"key": key, "name": key, "kind": "static"}, by=CLI)
        await session.execute(
            text("""
                INSERT INTO segment_member (tenant_id, segment_id, person_id, source)
                SELECT :tenant, :segment, id, 'manual' FROM unnest(CAST(:people AS uuid[])) AS id
            """),
            {"tenant": bench.id, "segment": made.id, "people": list(people)},
        )
    return made


async def by_statements(bench: Tenant, version: LoadedVersion) -> None:
    """Walk everybody who has entered: the statements of each node for the members who come there, without Temporal."""
    unstarted = select(Cohort.id, Cohort.size).where(Cohort.tenant_id == bench.id, Cohort.started_at.is_(None))
    async with bench.database.tenant(bench.id) as session:
        cohorts = (await session.execute(unstarted)).all()
    for cohort in cohorts:
        standing = {version.definition.start: everyone(cohort.size)}
        for name in ORDER:
            if not standing.get(name):
                continue
            kind = "leave_wait" if isinstance(version.definition.nodes[name], WaitNode) else "act"
            step = steps.Step(version, kind, name, 1, timed_out=False, attempt=1, actions=journey_sends.ACTIONS)
            async with bench.database.tenant(bench.id) as session:
                members = CohortMembers(bench.id, cohort.id, cohort.size, standing[name])
                moved = await steps.run(session, step, members)
            for outcome, slots in moved.outcomes.items():
                target = version.plan.move(name, 1, outcome)
                if target is not None:
                    standing[target[0]] = standing.get(target[0], 0) | slots
    await walking.started(bench.database)
