"""Deals go from stage to stage, one as thousands; what they were in is kept without a gap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, DateTime, Text, Uuid

from contracts.events import DEAL_MOVED
from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError, NotFoundError, PlatformError
from core.ids import new_ids
from core.json_text import as_text
from models import Deal
from services.crm import deal_rows, rates, requirements, stages, telling
from services.crm.applying import stale
from services.crm.deal_fields import normalized_reason
from services.crm.rates import Amount
from services.crm.requirements import Beside
from services.crm.stages import Stage
from services.events.publish import publish_alike
from services.identity import lifecycle
from services.shared import activity

RELOCATED_PAGE = 5_000
"""Deals that a deleted stage's are moved by at once."""

_MOVE = text("""
    UPDATE deal d
    SET pipeline_id = :pipeline, stage_id = :stage, status = :status, base_minor = n.base_minor,
        closed_at = CASE WHEN :status = 'open' THEN NULL WHEN d.status = :status THEN d.closed_at ELSE :at END,
        lost_reason = n.lost_reason, stage_entered_at = :at, touched_at = :at, updated_at = :at, version = d.version + 1
    FROM unnest(:ids, :bases, :reasons) AS n(id, base_minor, lost_reason)
    WHERE d.tenant_id = :tenant AND d.id = n.id
""").bindparams(
    bindparam("pipeline", type_=Uuid),
    bindparam("stage", type_=Uuid),
    bindparam("status", type_=Text),
    bindparam("at", type_=DateTime(timezone=True)),
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("bases", type_=ARRAY(BigInteger)),
    bindparam("reasons", type_=ARRAY(Text)),
)
_STAY = text("""
    WITH ended AS (
      UPDATE deal_stage_entry e SET left_at = :at
      WHERE e.tenant_id = :tenant AND e.deal_id = ANY(:ids) AND e.left_at IS NULL
      RETURNING e.deal_id, e.number
    )
    INSERT INTO deal_stage_entry (tenant_id, id, deal_id, number, pipeline_id, stage_id, entered_at, actor)
    SELECT :tenant AS tenant_id, n.id, e.deal_id, e.number + 1, :pipeline, :stage, :at, :actor
    FROM ended e JOIN unnest(:ids, :entries) AS n(deal_id, id) ON n.deal_id = e.deal_id
""").bindparams(
    bindparam("pipeline", type_=Uuid),
    bindparam("stage", type_=Uuid),
    bindparam("at", type_=DateTime(timezone=True)),
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("entries", type_=ARRAY(Uuid)),
    bindparam("actor", type_=Text),
)

_MOVES: Final = ("status", "closed_at", "lost_reason")
"""What of a deal before its move, beside its stage, the log of the move depends on."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of deals to move."""

    moved: list[UUID] = field(default_factory=list[UUID])
    unchanged: list[UUID] = field(default_factory=list[UUID])
    """Those that stood there already."""
    refused: dict[UUID, PlatformError] = field(default_factory=dict[UUID, PlatformError])


class _Going(NamedTuple):
    """A deal that moves, as it is and as it will be."""

    before: deal_rows.Values
    after: deal_rows.Values
    left: Stage


async def move(
    session: TenantSession,
    deal_ids: Sequence[UUID],
    stage_id: UUID,
    *,
    by: Actor,
    pipeline_id: UUID | None = None,
    versions: Mapping[UUID, int] | None = None,
    lost_reason: str | Mapping[UUID, str] | None = None,
) -> Moved:
    """Move deals to a stage, in as many statements as one takes; those that may not go are refused, each by itself.

    Args:
        session: of the tenant.
        deal_ids: which.
        stage_id: where to.
        by: who moves them.
        pipeline_id: the stage's; needed for deals of another pipeline.
        versions: by the deal's id: the move is refused where the deal is in another version by now.
        lost_reason: why they are lost, or by the deal's id why each is; for a lost stage alone.

    Raises:
        InvalidError: there is no such stage, it is of another pipeline than `pipeline_id`, or the reason is not
            acceptable.
    """
    base = await rates.hold(session)
    stage = await stages.find(session, stage_id)
    if pipeline_id is not None and stage.pipeline_id != pipeline_id:
        raise InvalidError.of("stage_id", "is no stage of this pipeline")
    if lost_reason and stage.kind != "lost":
        raise InvalidError.of("lost_reason", f"is for lost deals alone; the stage {stage.key} is {stage.kind}")
    reasons: Mapping[UUID, str] = lost_reason if isinstance(lost_reason, Mapping) else {}
    reason = None if isinstance(lost_reason, Mapping) else normalized_reason(lost_reason)
    moved = Moved()
    rows = await deal_rows.locked(session, deal_ids)
    left = await stages.known(session, {row["stage_id"] for row in rows.values()})
    beside = await beside_of(session, stage, list(rows))
    going: list[_Going] = []
    for deal_id in dict.fromkeys(deal_ids):
        row = rows.get(deal_id)
        try:
            if row is None:
                raise NotFoundError("No such deal.")
            version = (versions or {}).get(deal_id)
            if version is not None and version != row["version"]:
                raise stale(row["version"])
            if row["stage_id"] == stage.id:
                moved.unchanged.append(deal_id)
                continue
            own = normalized_reason(reasons.get(deal_id)) or reason
            one = _Going(row, _after(row, stage, own), left[row["stage_id"]])
            _check(one, stage, pipeline_id, beside.get(deal_id, Beside()))
        except PlatformError as error:
            moved.refused[deal_id] = error
        else:
            going.append(one)
    await _carry_out(session, going, stage, base, moved, by=by)
    return moved


async def relocate(session: TenantSession, left: Stage, stage: Stage, *, by: Actor) -> int:
    """Move all deals out of a stage that is to go, whatever is asked of deals that move; return how many.

    The caller holds rates and the pipeline.
    """
    base = await rates.base_of(session)
    count, page = 0, RELOCATED_PAGE
    while page == RELOCATED_PAGE:
        ids = await session.scalars(
            select(Deal.id)
            .where(Deal.tenant_id == session.tenant_id, Deal.stage_id == left.id)
            .order_by(Deal.id)
            .limit(RELOCATED_PAGE)
        )
        rows = await deal_rows.locked(session, ids.all())
        page = len(rows)
        going = [_Going(row, _after(row, stage, None), left) for row in rows.values() if row["stage_id"] == left.id]
        await _carry_out(session, going, stage, base, Moved(), by=by)
        count += len(going)
    return count


def refusal(row: deal_rows.Values, left: Stage, stage: Stage, beside: Beside, *, reason: str | None) -> str | None:
    """Return why a deal may not go from one stage of its pipeline to another; None where it may."""
    try:
        _check(_Going(row, _after(row, stage, reason), left), stage, None, beside)
    except InvalidError as error:
        return error.detail
    return None


def _after(row: deal_rows.Values, stage: Stage, reason: str | None) -> deal_rows.Values:
    kept = row["lost_reason"] if row["status"] == "lost" else None
    return row | {
        "pipeline_id": stage.pipeline_id,
        "stage_id": stage.id,
        "status": stage.kind,
        "closed_at": row["closed_at"] if row["status"] == stage.kind else None,
        "lost_reason": (reason or kept) if stage.kind == "lost" else None,
    }


def _check(going: _Going, stage: Stage, pipeline_id: UUID | None, beside: Beside) -> None:
    """Refuse a move that the stages do not allow.

    Raises:
        InvalidError: naming the fields.
    """
    left = going.left
    if left.pipeline_id != stage.pipeline_id and pipeline_id is None:
        raise InvalidError.of("stage_id", "is of another pipeline; to move the deal there, name pipeline_id too")
    if left.allowed_moves is not None and (
        left.pipeline_id != stage.pipeline_id or stage.key not in left.allowed_moves
    ):
        allowed = ", ".join(sorted(left.allowed_moves)) or "no stage"
        raise InvalidError.of("stage_id", f"from {left.key} a deal may go to {allowed} alone")
    problem = requirements.refusal(stage, going.after, beside)
    if problem is not None:
        raise problem


async def beside_of(session: TenantSession, stage: Stage, deal_ids: Sequence[UUID]) -> dict[UUID, Beside]:
    """Return what deals have in other tables, where the stage asks for it."""
    if not requirements.looks_beside(stage):
        return {}
    lines = await deal_rows.totals(session, deal_ids)
    contacts = await deal_rows.contacts_of(session, deal_ids)
    return {deal_id: Beside(products=deal_id in lines, contacts=deal_id in contacts) for deal_id in deal_ids}


async def _carry_out(
    session: TenantSession, going: Sequence[_Going], stage: Stage, base: str, moved: Moved, *, by: Actor
) -> None:
    """Move locked deals; those whose worth cannot be said any more are refused."""
    amounts = [
        Amount(one.after["amount_minor"], one.after["currency"], rates.day_of(one.after["closed_at"])) for one in going
    ]
    good: list[_Going] = []
    for one, worth in zip(going, await rates.values(session, base, amounts), strict=True):
        if isinstance(worth, int):
            one.after["base_minor"] = worth
            good.append(one)
            moved.moved.append(one.after["id"])
        else:
            moved.refused[one.after["id"]] = worth
    if not good:
        return
    await _write(session, good, stage, by=by)
    ids = [one.after["id"] for one in good]
    await activity.record_alike(session, "deal", DEAL_MOVED, ids, _logged(good, stage), by=by)
    for events in telling.moved_all([(one.after, one.left) for one in good], stage):
        await publish_alike(session, events)
    turned = [one.after["id"] for one in good if one.before["status"] != stage.kind]
    if turned:
        people = deal_rows.given(one.after["person_id"] for one in good if one.before["status"] != stage.kind)
        contacts = await deal_rows.contacts_of(session, turned)
        people.update(person_id for of_deal in contacts.values() for person_id in of_deal)
        await lifecycle.recompute(session, sorted(people))


async def _write(session: TenantSession, going: Sequence[_Going], stage: Stage, *, by: Actor) -> None:
    # By the server's clock once all are locked: later than any stay of theirs began, whoever waited for whom.
    clock: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    where = {
        "tenant": session.tenant_id,
        "ids": [one.after["id"] for one in going],
        "pipeline": stage.pipeline_id,
        "stage": stage.id,
        "at": max(clock, *(one.before["stage_entered_at"] for one in going)),
    }
    written = {
        "status": stage.kind,
        "bases": [one.after["base_minor"] for one in going],
        "reasons": [one.after["lost_reason"] for one in going],
    }
    await session.execute(_MOVE, where | written)
    await session.execute(_STAY, where | {"entries": new_ids(len(going)), "actor": by.name})


def _logged(going: Sequence[_Going], stage: Stage) -> list[str]:
    """Return what the log shows of each, as JSON: of most it is the same."""
    known: dict[object, str] = {}
    found: list[str] = []
    for one in going:
        key = (one.left.id, *(one.before[name] for name in _MOVES))
        if one.after["lost_reason"] is not None:
            key = (*key, one.after["lost_reason"])
        text = known.get(key)
        if text is None:
            text = known[key] = as_text(telling.changes(one.before, one.after) | _keys(one.left, stage))
        found.append(text)
    return found


def _keys(left: Stage, stage: Stage) -> dict[str, tuple[str, str]]:
    keys = {"stage": (left.key, stage.key)}
    if left.pipeline_id != stage.pipeline_id:
        keys["pipeline"] = (left.pipeline_key, stage.pipeline_key)
    return keys
