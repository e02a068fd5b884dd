"""Which published journeys an event may act on: as a way in, a goal, or an exit condition."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import and_, or_, select

from core.database import TenantSession
from models import Journey, JourneyListener
from models.journeys import SUBJECTS


@dataclass(frozen=True, slots=True)
class Entry:
    """A way into an active journey."""

    version_id: UUID
    ordinal: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A goal or exit condition. Its version may be an old one, and is read only where somebody is inside."""

    version_id: UUID
    kind: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class Listeners:
    """Which journeys of one subject listen, by event type."""

    entries: Mapping[str, Sequence[Entry]]
    rules: Mapping[str, Sequence[Rule]]

    def types(self) -> set[str]:
        """Return the types that they listen to."""
        return {*self.entries, *self.rules}


async def by_subject(session: TenantSession, types: Iterable[str]) -> Mapping[str, Listeners]:
    """Return who listens to these types, by subject."""
    rows = await session.execute(
        select(JourneyListener)
        .join(Journey, and_(Journey.tenant_id == JourneyListener.tenant_id, Journey.id == JourneyListener.journey_id))
        .where(
            JourneyListener.tenant_id == session.tenant_id,
            JourneyListener.event_type.in_(sorted(types)),
            or_(
                JourneyListener.kind != "entry",
                and_(
                    Journey.status == "active",
                    ~Journey.entry_paused,
                    Journey.active_version_id == JourneyListener.version_id,
                ),
            ),
        )
        .order_by(JourneyListener.version_id, JourneyListener.kind, JourneyListener.ordinal)
        # Journeys before enrollments, as whoever cancels one locks them.
        .with_for_update(read=True, key_share=True, of=Journey)
    )
    entries: dict[str, dict[str, list[Entry]]] = {subject: defaultdict(list) for subject in SUBJECTS}
    rules: dict[str, dict[str, list[Rule]]] = {subject: defaultdict(list) for subject in SUBJECTS}
    for row in rows.scalars():
        if row.kind == "entry":
            entries[row.subject][row.event_type].append(Entry(row.version_id, row.ordinal))
        else:
            rules[row.subject][row.event_type].append(Rule(row.version_id, row.kind, row.ordinal))
    return {subject: Listeners(entries[subject], rules[subject]) for subject in SUBJECTS}
