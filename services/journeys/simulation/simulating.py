"""A whole simulation: the planner over real people on a virtual clock, in one transaction that writes nothing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from core.database import TenantSession
from core.errors import InvalidError
from journeys.definition import JourneyDefinition
from journeys.plan import Plan
from journeys.virtual import EndlessWalkError, Walk
from models import Tenant
from services.journeys import hearing
from services.journeys.simulation import clock, deals, events, foreseeing, passages
from services.journeys.simulation.asking import Asking, Window
from services.journeys.simulation.clock import Opening
from services.journeys.simulation.entrances import Entrances
from services.journeys.simulation.failing import Failing
from services.journeys.simulation.passages import Audience, Slots
from services.journeys.simulation.playing import Player
from services.journeys.simulation.tally import SAMPLES, Tally
from services.journeys.simulation.world import ANSWERS, Domains, World

STRETCH: Final = timedelta(days=28)
"""How much of the past is played: whole weeks, so that a Monday's events come on a Monday."""
LONGEST: Final = timedelta(days=366)
"""The longest time that a simulation covers; and how much later who is inside then is still looked for."""
_CANDIDATES: Final = 400
"""Of passages that may never begin, so many are kept in mind to have some samples that did."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to simulate."""

    begin: datetime
    until: datetime
    audience: Audience = field(default_factory=Audience)
    by_events: bool = False
    """Whether people enter by the events that are played, and by the clock; else all when the simulation begins."""
    played: bool = True
    """Whether events are played."""
    entry: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What they enter by who enter when the simulation begins."""
    seed: int = 0
    """Chooses the sample passages, and whose calls fail."""
    failing: Mapping[str, float] = field(default_factory=dict[str, float])
    """By node, the percent of a webhook's calls that fail; else as many as lately did."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of it."""

    report: dict[str, Any]
    samples: Sequence[tuple[UUID, list[dict[str, Any]]]]
    """Some passages: which person, or deal, and their steps."""


def enters_by_events(definition: JourneyDefinition, *, played: bool) -> bool:
    """Whether the journey has a way in that is foreseeable: by the clock, or where they are `played` by events."""
    by_events = played and any(hearing.letting_in(entry) for entry in definition.entries)
    return by_events or clock.lets_in(definition)


async def simulate(
    session: TenantSession, journey_id: UUID, definition: JourneyDefinition, request: Request, domains: Domains
) -> Simulated:
    """Walk the audience through the journey.

    Raises:
        InvalidError: there are too many people, events or steps; the field says of what.
    """
    tenant_zone = (await session.scalars(select(Tenant.time_zone).where(Tenant.id == session.tenant_id))).one()
    cast = await passages.gather(session, definition.subject, request.audience)
    if definition.subject == "deal":
        await deals.copy(session)
    end = min(request.begin, datetime.now(UTC))
    window = Window(end - STRETCH, end, request.begin, played=request.played)
    types = events.heard(definition, entering=request.by_events)
    playlist = events.timed(await events.read(session, definition.subject, types, window, request.until))
    opening: list[Opening] = []
    if request.by_events:
        slots = Slots()
        events.keep(definition, playlist.events, slots)
        opening = await clock.openings(
            session, definition, slots, begin=request.begin, until=request.until, tenant_zone=tenant_zone
        )
        walking = await passages.written(session, cast, slots)
    else:
        walking = await passages.each_once(session, cast, request.entry)
    shown = min(walking.size, _CANDIDATES if request.by_events else SAMPLES)
    chosen = Random(request.seed).sample(range(walking.size), shown)  # noqa: S311 - samples, no secrets
    tally = Tally(samples={slot: [] for slot in chosen})
    asking = Asking(session, walking, window)
    failing = Failing(session, journey_id, window.since, request.failing, request.seed)
    world = World(
        session=session,
        journey_id=journey_id,
        definition=definition,
        passages=walking,
        asking=asking,
        zones=await passages.zones(session),
        tenant_zone=tenant_zone,
        tally=tally,
        answers={**ANSWERS, **domains.answers},
        follow=domains.follow,
        failing=failing,
    )
    walk = Walk(Plan(definition, tenant_zone), world)
    player = Player(world, walk, Entrances(walk, tally, request.begin))
    try:
        if not request.by_events and walking.size:
            await player.begin(request.begin)
        await player.play(playlist.events, opening)
        await player.advance(request.until)
    except EndlessWalkError:
        raise InvalidError.of("until", "is too far: the journey takes too many steps by then") from None
    inside = _by_node(walk)
    tally.open = False
    report = {
        **tally.report(tally.messages_per_person(cast.people, walking.person_of)),
        "audience": cast.size,
        "from": request.begin.isoformat(),
        "until": request.until.isoformat(),
        "inside": inside,
        "never_leaving": await _never_leaving(player, request.until + LONGEST),
        "failing": failing.assumed,
        "not_foreseen": foreseeing.gaps(definition) if request.by_events else [],
        "events": {"played": len(playlist.events), "put_together_seconds": playlist.grain},
    }
    return Simulated(report, tally.passages(await passages.subjects_at(session, tally.walked())))


async def _never_leaving(player: Player, until: datetime) -> dict[str, int]:
    """Let all waits run out, with nothing more happening; return who is inside after all that, by node."""
    with suppress(EndlessWalkError):  # who goes round so often does so for ever
        await player.advance(until)
    return _by_node(player.walk)


def _by_node(walk: Walk) -> dict[str, int]:
    counts: dict[str, int] = {}
    for place, members in walk.resting.items():
        counts[place.node] = counts.get(place.node, 0) + members.bit_count()
    return dict(sorted(counts.items()))
