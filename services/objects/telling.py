"""What is told of changed records: the activity log, and events on the bus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from contracts.events import RECORD_CREATED, RECORD_DELETED, RECORD_UPDATED
from core.actor import Actor
from core.database import TenantSession
from services.events.publish import NewEvent, publish
from services.shared import activity

Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one record."""

    id: UUID
    before: Properties | None
    """None where it is new."""
    after: Properties | None
    """None where it is gone."""

    @property
    def fields(self) -> dict[str, tuple[Any, Any]]:
        """Each property that is another now, with what it was and is."""
        before, after = self.before or {}, self.after or {}
        return {
            name: (before.get(name), after.get(name))
            for name in [*before, *(name for name in after if name not in before)]
            if not same(before.get(name), after.get(name)) or (name in before) != (name in after)
        }

    @property
    def type(self) -> str:
        """The type of its event, and of its entry in the log."""
        if self.before is None:
            return RECORD_CREATED
        return RECORD_UPDATED if self.after is not None else RECORD_DELETED


def same(one: object, other: object) -> bool:
    """Whether two JSON values are the same: as Python has it, but `true` is not `1`."""
    if one is other:  # most of a row that is written back
        return True
    if isinstance(one, bool) or isinstance(other, bool):
        return False
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        these, those = cast("Properties", one), cast("Properties", other)
        return these.keys() == those.keys() and all(same(value, those[name]) for name, value in these.items())
    if isinstance(one, list) and isinstance(other, list):
        items, others = cast("list[object]", one), cast("list[object]", other)
        return len(items) == len(others) and all(map(same, items, others))
    return one == other


async def tell(session: TenantSession, changes: Sequence[Change], *, object_id: UUID, key: str, by: Actor) -> None:
    """Log changes of an object's records and publish them, in this order; two statements."""
    fields = [change.fields for change in changes]
    await activity.record_all(
        session,
        [
            activity.NewActivity("record", change.id, change.type, changed)
            for change, changed in zip(changes, fields, strict=True)
        ],
        by=by,
    )
    await publish(
        session,
        [
            NewEvent(
                change.type,
                change.id,
                subject_type="record",
                properties={"object": key, "object_id": str(object_id), "fields": list(changed)},
            )
            for change, changed in zip(changes, fields, strict=True)
        ],
    )
