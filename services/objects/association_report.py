"""What is told of a change of associations: to the log of both ends, and to the bus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from contracts.events import ASSOCIATION_CREATED
from core.actor import Actor
from core.database import TenantSession
from services.events.publish import NewEvent, publish
from services.objects.ends import End
from services.shared import activity


@dataclass(frozen=True, slots=True)
class Link:
    """An association, as it is told of."""

    id: UUID
    label: str
    start: End
    """Its `from`."""
    end: End
    """Its `to`."""

    @classmethod
    def of(cls, row: Any) -> "Link":  # noqa: ANN401 - a row of the table, whole or in part
        """Return what a row with `id`, `label`, `from_end` and `to_end` says."""
        return cls(row.id, row.label, End.of(row.from_end), End.of(row.to_end))


async def log(
    session: TenantSession, verb: str, links: Sequence[Link], *, by: Actor, gone: frozenset[End] = frozenset()
) -> None:
    """Log with each end what it was linked to, or is no longer; ends in `gone` are being deleted themselves."""
    entries = [
        activity.NewActivity(this.type, this.uuid, verb, _changes(verb, link, side, other))
        for link in links
        for this, side, other in ((link.start, "to", link.end), (link.end, "from", link.start))
        if this.uuid is not None and this not in gone
    ]
    await activity.record_all(session, entries, by=by)


async def tell(
    session: TenantSession,
    verb: str,
    links: Sequence[Link],
    objects: Mapping[str, str],
    *,
    gone: frozenset[End] = frozenset(),
) -> None:
    """Publish it: an event for each person at an end, or one for nobody; `objects` are keys by the ids of records."""
    events = [
        NewEvent(verb, link.id, subject_type="association", person_id=person_id, properties=_properties(link, objects))
        for link in links
        for person_id in _people(link, gone)
    ]
    await publish(session, events)


def _people(link: Link, gone: frozenset[End]) -> Sequence[UUID | None]:
    people = [end for end in (link.start, link.end) if end.type == "person"]
    return [person.uuid for person in people if person not in gone] if people else [None]


def _properties(link: Link, objects: Mapping[str, str]) -> dict[str, Any]:
    keys = [objects[end.id] for end in (link.end, link.start) if end.id in objects]
    shown = {"label": link.label, "from": link.start.shown(), "to": link.end.shown()}
    return shown | ({"object": keys[0]} if keys else {})


def _changes(verb: str, link: Link, side: str, other: End) -> activity.Changes:
    values = {"association_id": str(link.id), "label": link.label, side: other.shown()}
    if verb == ASSOCIATION_CREATED:
        return {name: (None, value) for name, value in values.items()}
    return {name: (value, None) for name, value in values.items()}
