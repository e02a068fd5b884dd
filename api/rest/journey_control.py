"""Holding journeys and letting them go on, taking people out of them, and those who are late or parked there."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.rest.journeys import Journey, JourneyPath
from api.routing import Router
from services.journeys import holding, journeys, parked

router = Router(prefix="/journeys", tags=["journeys"])

READ = [requires("journeys:read")]
WRITE = [requires("journeys:write")]

NodeName = Annotated[str, Field(min_length=1, max_length=100)]


class Pausing(Strict):
    """What to hold."""

    what: Literal["all", "entry", "sends"] = "all"
    """`all`: nobody enters by event, nobody inside takes a step. `entry`: nobody enters. `sends`: members are held at
    the nodes that send, and there alone."""


class Resuming(Strict):
    """What goes on, and what becomes of the late."""

    what: Literal["all", "entry", "sends"] = "all"
    """`all`: everything that is held."""
    overdue: Literal["send", "skip", "exit"] = "send"
    """Of those who fell due meanwhile (see `overdue`): `send`: they go on now. `skip`: they go on, and are sent nothing
    before their next wait. `exit`: they leave."""


class Ejecting(Strict):
    """Whom to take out, and why."""

    reason: Annotated[str, Field(min_length=1, max_length=200)] = "ejected"
    node: NodeName | None = None
    """Only those who stand there."""


class Ejected(Strict):
    """How many were taken out."""

    ejected: int


class OverdueAtNode(Strict):
    """Members at one node who would have gone on by now."""

    node: str
    members: int
    due_from: datetime
    """When the first of them was due."""
    due_until: datetime
    late: dict[str, int]
    """How many by at most an `hour`, a `day`, a `week`, and how many `longer`; each is counted once."""


class Overdue(Strict):
    """Who would have gone on by now."""

    members: int
    nodes: list[OverdueAtNode]


class ParkedGroup(Strict):
    """Members parked at one node with one error."""

    node: str
    error: str
    members: int
    attempts: int
    """How often the node was tried for the one it was tried most for."""
    since: datetime
    """When the first of them came to the node."""
    enrollment_ids: list[UUID]
    """The first five."""


class Parked(Strict):
    """Who is parked, the largest groups first."""

    members: int
    groups: list[ParkedGroup]
    """At most 200."""


class ParkedChoice(Strict):
    """Whom to let go on: every filter given must hold."""

    node: NodeName | None = None
    error: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """A part of the error, capitals or not."""


class LetGo(Strict):
    """How many were parked and go on."""

    members: int


@router.post("/{journey}/pause", dependencies=WRITE)
async def pause(journey: JourneyPath, session: SessionDep, actor: ActorDep, body: Pausing | None = None) -> Journey:
    """Hold the journey, or only its entry, or only what it sends. Waits go on running out."""
    found = await journeys.find(session, journey)
    await journeys.pause(session, found, by=actor, what=(body or Pausing()).what)
    return Journey.model_validate(found)


@router.post("/{journey}/resume", dependencies=WRITE)
async def resume(journey: JourneyPath, session: SessionDep, actor: ActorDep, body: Resuming | None = None) -> Journey:
    """Go on: what fell due meanwhile happens now, unless `overdue` says otherwise."""
    found = await journeys.find(session, journey)
    asked = body or Resuming()
    await journeys.resume(session, found, by=actor, what=asked.what, overdue=asked.overdue)
    return Journey.model_validate(found)


@router.get("/{journey}/overdue", dependencies=READ)
async def overdue(journey: JourneyPath, session: SessionDep) -> Overdue:
    """Return who would have gone on by now, by node: those whom `resume` asks about."""
    found = await journeys.find(session, journey)
    nodes = [OverdueAtNode.model_validate(late) for late in await holding.overdue(session, found.id)]
    return Overdue(members=sum(node.members for node in nodes), nodes=nodes)


@router.post("/{journey}/eject", dependencies=WRITE)
async def eject(journey: JourneyPath, session: SessionDep, actor: ActorDep, body: Ejecting | None = None) -> Ejected:
    """Take everybody out, or those at one node. Who enters afterwards, and the journey itself, go on."""
    found = await journeys.find(session, journey)
    asked = body or Ejecting()
    return Ejected(ejected=await holding.eject(session, found, reason=asked.reason, node=asked.node, by=actor))


@router.get("/{journey}/parked", dependencies=READ)
async def list_parked(journey: JourneyPath, session: SessionDep) -> Parked:
    """Return for whom a node failed, by node and error."""
    found = await journeys.find(session, journey)
    groups = [ParkedGroup.model_validate(group) for group in await parked.groups(session, found.id)]
    return Parked(members=sum(group.members for group in groups), groups=groups)


@router.post("/{journey}/parked/retry", dependencies=WRITE)
async def retry_parked(
    journey: JourneyPath, session: SessionDep, actor: ActorDep, body: ParkedChoice | None = None
) -> LetGo:
    """Try their node again for all who are parked, or for those of one node or error."""
    return await _let_go("retry", journey, session, actor, body)


@router.post("/{journey}/parked/skip", dependencies=WRITE)
async def skip_parked(
    journey: JourneyPath, session: SessionDep, actor: ActorDep, body: ParkedChoice | None = None
) -> LetGo:
    """Have those who are parked go on past their node, without its doing."""
    return await _let_go("skip", journey, session, actor, body)


async def _let_go(
    how: Literal["retry", "skip"], journey: str, session: SessionDep, actor: ActorDep, body: ParkedChoice | None
) -> LetGo:
    found = await journeys.find(session, journey)
    asked = body or ParkedChoice()
    done = await parked.let_go(session, found, how, node=asked.node, error=asked.error, by=actor)
    return LetGo(members=done)
