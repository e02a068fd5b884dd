"""Changes that move until when members wait: of a person's zone or dates, of a deal's dates, of the tenant's zone.

Whoever waits by them is planned anew, in mid-wait. Only those are told who stand at a node that the change concerns.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, false, select

from contracts.events import DEAL_MOVED, DEAL_UPDATED, PERSON_MERGED, PERSON_UNMERGED, PERSON_UPDATED, TENANT_UPDATED
from core.database import TenantSession
from journeys.nodes import Node
from journeys.waits import TimeWindowNode, WaitNode
from models import Journey, JourneyVersion
from services.events.bus import EventRow
from services.journeys import endings, versions
from services.journeys.members import ENROLLMENT

OF_PEOPLE: Final = frozenset({PERSON_UPDATED, PERSON_MERGED, PERSON_UNMERGED})
OF_DEALS: Final = frozenset({DEAL_UPDATED, DEAL_MOVED})
HEARD: Final = OF_PEOPLE | OF_DEALS | {TENANT_UPDATED}
"""The events that may move a moment."""
_ANYTHING: Final = frozenset({""})
"""As the fields that changed: any may have."""
_ZONE: Final = "time_zone"


Rest = tuple[str, str]
"""What a moment rests on: a root (`person`, `deal` or `tenant`), and a field of it."""


async def concerning(session: TenantSession, types: frozenset[str]) -> frozenset[str]:
    """Return which of these types of events may move a moment that somebody waits for."""
    if not types & HEARD:
        return frozenset()
    roots = {root for root, _ in await _rested_on(session)}
    of_root = {"person": OF_PEOPLE, "deal": OF_DEALS, "tenant": frozenset({TENANT_UPDATED})}
    return types & frozenset[str]().union(*(of_root[root] for root in roots))


async def follow(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Have it asked anew until when those wait whom these events concern."""
    heard = [event for event in events if event.type in HEARD]
    if not heard:
        return
    rested = await _rested_on(session)
    people = _changed((event for event in heard if event.type in OF_PEOPLE), "person", rested)
    deals = _changed((event for event in heard if event.type in OF_DEALS), "deal", rested)
    zone = bool(_changed((event for event in heard if event.type == TENANT_UPDATED), "tenant", rested))
    if not (people or deals or zone):
        return
    concerned = ENROLLMENT.c.tenant_id == session.tenant_id if zone else false()
    if people:
        concerned |= ENROLLMENT.c.person_id.in_(sorted(people))
    if deals:
        concerned |= ENROLLMENT.c.subject_id.in_(sorted(deals))
    by_cohort = await _waiting(session, concerned, people, deals, zone=zone)
    await endings.owe(session, "replan", by_cohort)


async def _rested_on(session: TenantSession) -> frozenset[Rest]:
    """Return what the waits of the tenant's journeys rest on: mostly nothing, so that nobody is looked for."""
    found = await session.scalars(
        select(JourneyVersion.id)
        .join(Journey, and_(Journey.tenant_id == JourneyVersion.tenant_id, Journey.id == JourneyVersion.journey_id))
        .where(JourneyVersion.tenant_id == session.tenant_id, Journey.status.in_(("active", "paused")))
    )
    rested = frozenset[Rest]()
    for version_id in found.all():
        definition = (await versions.load(session, version_id)).definition
        rested = rested.union(*(_rests(node) for node in definition.nodes.values()))
    return rested


def _rests(node: Node) -> frozenset[Rest]:
    """Return what the end of a wait rests on beside when a member came."""
    if not isinstance(node, WaitNode | TimeWindowNode):
        return frozenset()
    found: set[Rest] = set()
    planned = isinstance(node, TimeWindowNode) or node.until is not None or node.clock_of in {"person", "tenant"}
    if planned and node.clock_of == "person":
        found |= {("person", _ZONE), ("tenant", _ZONE)}
    elif planned and node.clock_of == "tenant":
        found.add(("tenant", _ZONE))
    if isinstance(node, WaitNode) and node.until is not None and node.until.root in {"person", "deal"}:
        found.add((node.until.root, ".".join(node.until.path)))
    return frozenset(found)


def _moves(changed: frozenset[str], field: str) -> bool:
    return any(name in {"", field} or field.startswith(f"{name}.") for name in changed)


async def _waiting(
    session: TenantSession,
    concerned: ColumnElement[bool],
    people: Mapping[UUID, frozenset[str]],
    deals: Mapping[UUID, frozenset[str]],
    *,
    zone: bool,
) -> dict[UUID, int]:
    rows = await session.execute(
        select(
            ENROLLMENT.c.version_id,
            ENROLLMENT.c.node,
            ENROLLMENT.c.cohort_id,
            ENROLLMENT.c.slot,
            ENROLLMENT.c.person_id,
            ENROLLMENT.c.subject_id,
        ).where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.ended_at.is_(None),
            ENROLLMENT.c.status == "waiting",
            concerned,
        )
    )
    found: dict[UUID, int] = defaultdict(int)
    for row in rows:
        node = (await versions.load(session, row.version_id)).definition.nodes[row.node]
        person = people.get(row.person_id, frozenset[str]()) if row.person_id is not None else frozenset[str]()
        deal = deals.get(row.subject_id, frozenset[str]())
        changed = {"person": person, "deal": deal, "tenant": frozenset({_ZONE} if zone else ())}
        if any(_moves(changed[root], field) for root, field in _rests(node)):
            found[row.cohort_id] |= 1 << row.slot
    return found


def _changed(events: Iterable[EventRow], root: str, rested: frozenset[Rest]) -> dict[UUID, frozenset[str]]:
    """Return, by subject, the fields that changed, of those on which some wait rests."""
    wanted = [field for of, field in rested if of == root]
    found: dict[UUID, frozenset[str]] = {}
    for event in events:
        changed = _fields(event)
        if any(_moves(changed, field) for field in wanted):
            found[event.subject_id] = found.get(event.subject_id, frozenset()) | changed
    return found


def _fields(event: EventRow) -> frozenset[str]:
    fields = event.properties.get("fields")
    if isinstance(fields, list):
        return frozenset(str(name) for name in fields)  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]  # JSON
    return _ANYTHING
