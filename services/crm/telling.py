"""What is told of deals: events on the bus, and how values look in the activity log."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from itertools import zip_longest
from typing import Any, Final, cast
from uuid import UUID

from contracts.events import (
    DEAL_CREATED,
    DEAL_DELETED,
    DEAL_LOST,
    DEAL_MOVED,
    DEAL_REOPENED,
    DEAL_STAGE_ENTERED,
    DEAL_STAGE_LEFT,
    DEAL_WON,
)
from core import currency
from core.json_text import as_text
from services.crm.stages import Stage
from services.events.publish import AlikeEvents, NewEvent
from services.objects.telling import same

Row = Mapping[str, Any]
"""A row of `deal`, by column."""

_HIDDEN: Final = frozenset(
    {
        "tenant_id",
        "id",
        "base_minor",
        "source_key",
        "title_key",
        "version",
        "created_at",
        "updated_at",
        "touched_at",
        "stage_entered_at",
    }
)
_WAVES: Final = (DEAL_STAGE_LEFT, DEAL_MOVED, DEAL_WON, DEAL_LOST, DEAL_REOPENED, DEAL_STAGE_ENTERED)
"""What is told of a deal that moves, in the order in which it is told."""
_NAMES: Final = {"person_id": "primary_person_id", "amount_minor": "amount", "recurring_minor": "recurring_amount"}


def event(kind: str, deal: Row, stage: Stage, *, at: datetime | None = None, **properties: Any) -> NewEvent:  # noqa: ANN401 - JSON values
    """Return an event about a deal that stands in `stage`; its title and attributes are never in it."""
    return NewEvent(
        kind,
        deal["id"],
        subject_type="deal",
        person_id=deal["person_id"],
        properties={
            "pipeline": stage.pipeline_key,
            "stage": stage.key,
            "amount": str(currency.from_minor(deal["amount_minor"], deal["currency"])),
            "currency": deal["currency"],
        }
        | properties,
        occurred_at=at,
    )


def made(deal: Row, stage: Stage, *, at: datetime | None, live: bool = True) -> list[NewEvent]:
    """Return the events of a deal that was made in a stage; unless `live` they start nothing."""
    events = [
        event(DEAL_CREATED, deal, stage, at=at),
        event(DEAL_STAGE_ENTERED, deal, stage, at=at, stage_id=str(stage.id)),
    ]
    events += _closed(deal, stage, at=at)
    return events if live else [replace(each, live=False) for each in events]


def moved(deal: Row, left: Stage, stage: Stage) -> list[NewEvent]:
    """Return the events of a deal that went from one stage to another; `deal` is as it is now."""
    ends: dict[str, Any] = {
        "from": left.key,
        "to": stage.key,
        "from_stage_id": str(left.id),
        "to_stage_id": str(stage.id),
    }
    events = [
        event(DEAL_STAGE_LEFT, deal, left, stage_id=str(left.id), to=stage.key),
        event(DEAL_MOVED, deal, stage, **ends),
    ]
    if left.kind != stage.kind:
        events += _closed(deal, stage, at=None) if stage.closed else [event(DEAL_REOPENED, deal, stage)]
    entered: dict[str, Any] = {"stage_id": str(stage.id), "from": left.key}
    return [*events, event(DEAL_STAGE_ENTERED, deal, stage, **entered)]


def moved_all(deals: Sequence[tuple[Row, Stage]], stage: Stage) -> list[AlikeEvents]:
    """Return the events of deals that went to a stage, each from its own: what `moved` says of each, type by type."""
    waves = {kind: AlikeEvents(kind, "deal") for kind in _WAVES}
    known: dict[object, list[tuple[AlikeEvents, str]]] = {}
    for deal, left in deals:
        code = deal["currency"]
        key = (left.id, code, deal["lost_reason"])
        told = known.get(key)
        if told is None:
            told = known[key] = [(waves[each.type], without_amount(each)) for each in moved(deal, left, stage)]
        amount = currency.from_minor(deal["amount_minor"], code)
        for wave, rest in told:
            wave.add(deal["id"], deal["person_id"], with_amount(amount, rest))
    return list(waves.values())


def without_amount(event: NewEvent) -> str:
    """Return of an event about a deal what `with_amount` completes, for others that differ in the amount alone."""
    return as_text({name: value for name, value in event.properties.items() if name != "amount"})[1:]


def with_amount(amount: object, rest: str) -> str:
    """Return an event's properties as JSON."""
    return f'{{"amount":"{amount}",{rest}'


def in_waves(of_deals: Sequence[Sequence[NewEvent]]) -> list[NewEvent]:
    """Return the events of many deals, each deal's in their order, and such as are of one type side by side.

    So readers of the bus, who read page by page, meet many of a type at once: deals that entered a stage together are
    few cohorts.
    """
    waves = zip_longest(*of_deals)
    return [event for wave in waves for event in wave if event is not None]


def deleted(deal: Row, stage: Stage) -> list[NewEvent]:
    """Return the events of a deal that is gone."""
    return [
        event(DEAL_STAGE_LEFT, deal, stage, stage_id=str(stage.id), to=None),
        event(DEAL_DELETED, deal, stage),
    ]


def _closed(deal: Row, stage: Stage, *, at: datetime | None) -> list[NewEvent]:
    if stage.kind == "won":
        return [event(DEAL_WON, deal, stage, at=at)]
    if stage.kind == "lost":
        return [event(DEAL_LOST, deal, stage, at=at, lost_reason=deal["lost_reason"])]
    return []


def changes(before: Row, after: Row) -> dict[str, tuple[Any, Any]]:
    """Return each field that is another now, with what it was and is, as the log shows it; attributes one by one."""
    found: dict[str, tuple[Any, Any]] = {}
    # Most of a row that is written back is the very same object.
    others = [name for name, now in after.items() if before.get(name) is not now]
    others += [name for name in before if name not in after]
    for name in sorted(set(others) - _HIDDEN):
        was, now = before.get(name), after.get(name)
        if name == "attributes":
            old, new = cast("Row", was or {}), cast("Row", now or {})
            found |= {
                f"attributes.{key}": (old.get(key), new.get(key))
                for key in sorted(old.keys() | new.keys())
                if not same(old.get(key), new.get(key))
            }
        elif not same(was, now):
            found[_NAMES.get(name, name)] = (_shown(before, name), _shown(after, name))
    return found


def _shown(row: Row, name: str) -> object:
    value = row.get(name)
    if name.endswith("_minor") and value is not None:
        return f"{currency.from_minor(value, row['currency'])} {row['currency']}"
    if isinstance(value, UUID):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value
