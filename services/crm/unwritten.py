"""Deals that nodes of one run of a journey change: judged one after the other, and written together."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from core.actor import Actor
from core.database import TenantSession
from journeys.conditions import FieldPath
from services.crm import deal_rows, deals, rates, tasks
from services.crm.applying import Changed, Judged, Written, alike, judge
from services.crm.deal_fields import DealChange
from services.crm.deal_rows import Values
from services.journeys.steps import Step

_FOLLOW: Final = frozenset({"updated_at", "rotting", "base_amount"})
"""What any change of a deal changes too."""


@dataclass(slots=True)
class Unwritten:
    """Changes kept back, of deals that the transaction holds: here is what they are, in the store what they were.

    Nodes that follow each other so make one change of a deal: one row of the log, one event.
    """

    by: Actor
    _base: str
    """The base currency, which is held."""
    _held: dict[UUID, Values]
    """Deals that are held, as they are in the store."""
    deals: dict[UUID, Written] = field(default_factory=dict[UUID, Written])
    fields: set[str] = field(default_factory=set[str])
    """What of them may be another."""
    _touched: set[UUID] = field(default_factory=set[UUID])
    """Those that something was done about beside."""

    async def change(self, session: TenantSession, changes: Mapping[UUID, DealChange]) -> Changed:
        """Change deals as `deals.update_many` does, but for writing it."""
        known = self._held | {deal_id: one.after for deal_id, one in self.deals.items()}
        held = {deal_id: known[deal_id] for deal_id in changes if deal_id in known}
        judged = await judge(session, changes, self._base, {}, held=held)
        for one in judged.written:
            deal_id = one.after["id"]
            first = self.deals.get(deal_id)
            self.deals[deal_id] = one if first is None else one._replace(before=first.before)
        self.fields.update(*{id(change): change.fields for change in changes.values()}.values())
        return judged.result

    async def touch(self, session: TenantSession, deal_ids: set[UUID]) -> None:
        """Note that something was done about deals: of those kept back when they are written, if they are."""
        self._touched |= deal_ids & self.deals.keys()
        await tasks.touch(session, deal_ids - self.deals.keys())

    def owners(self) -> dict[UUID | None, UUID | None]:
        """Return who owns a deal by now, of those whose owner was changed."""
        return {
            deal_id: one.after["owner_id"]
            for deal_id, one in self.deals.items()
            if one.after["owner_id"] != one.before["owner_id"]
        }

    def concerns(self, fields: Iterable[FieldPath]) -> bool:
        """Whether the store may say of any of these what is no longer so."""
        return bool(self.deals) and any(
            path.root == "deal" and (path.path[0] in _FOLLOW or path.path[0] in self.fields) for path in fields
        )

    async def write(self, session: TenantSession) -> None:
        """Write the deals, with what is told of it; those that are what they were are touched at most."""
        changed = [one for one in self.deals.values() if not alike(one.before, one.after)]
        touched = self._touched.difference(one.after["id"] for one in changed)
        self.deals.clear()
        self.fields.clear()
        self._touched.clear()
        await tasks.touch(session, touched)
        if changed:
            for one in changed:
                self._held.pop(one.after["id"], None)
            await deals.write_back(session, Judged(changed, Changed()), by=self.by)


async def hold(session: TenantSession, deal_ids: Collection[UUID], *, by: Actor) -> Unwritten:
    """Hold rates and then these deals: what is done in turn about some and others holds nothing out of turn."""
    base = await rates.hold(session)
    return Unwritten(by, base, await deal_rows.locked(session, deal_ids))


def kept_back(step: Step) -> Unwritten | None:
    """Return what the step's run keeps back; None where each node has its effect at once."""
    return step.later.kept if isinstance(step.later.kept, Unwritten) else None
