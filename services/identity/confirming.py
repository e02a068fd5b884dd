"""Double opt-in: an opt-in that waits until the person confirms it, by the link in a mail; and the ledger's history."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast
from uuid import UUID

from sqlalchemy import exists, func, select, tuple_, update
from sqlalchemy.orm import aliased

from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError
from models import Consent, ConsentChange, PersonIdentifier
from services.identity import consent, lifecycle
from services.identity.topics import ALL

VALID_FOR: Final = timedelta(days=7)
"""How long a request can be confirmed."""
SOURCE: Final = "confirmation_link"

State = Literal["open", "confirmed", "withdrawn", "expired"]
"""`open`: can be confirmed. `confirmed`: the opt-in stands. `withdrawn`: the person opted out since, or the address is
no longer theirs. `expired`: asked for too long ago."""

_ATTEMPTS: Final = 3
"""How often a request is read again because its person was merged meanwhile."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An opt-in that was to be confirmed, and what has become of it."""

    id: UUID
    person_id: UUID
    channel: str
    topic: str
    wording: str | None
    state: State


async def asked(session: TenantSession, change_id: UUID) -> Asked:
    """Return a request for confirmation.

    Raises:
        NotFoundError: there is none of this id.
    """
    out_of_all, later = aliased(Consent), aliased(ConsentChange)
    opted_out = exists().where(
        out_of_all.tenant_id == session.tenant_id,
        out_of_all.person_id == ConsentChange.person_id,
        out_of_all.channel == ConsentChange.channel,
        out_of_all.topic == ALL,
        out_of_all.status == "opted_out",
    )
    withdrawn = exists().where(
        later.tenant_id == session.tenant_id,
        later.person_id == ConsentChange.person_id,
        later.channel == ConsentChange.channel,
        later.topic.in_([ConsentChange.topic, ALL]),
        later.status == "opted_out",
        later.at > ConsentChange.at,
    )
    row = (
        await session.execute(
            select(
                ConsentChange,
                Consent.status,
                opted_out.label("opted_out"),
                withdrawn.label("withdrawn"),
                (ConsentChange.at < func.now() - VALID_FOR).label("expired"),
            )
            .outerjoin(
                Consent,
                (Consent.tenant_id == ConsentChange.tenant_id)
                & (Consent.person_id == ConsentChange.person_id)
                & (Consent.channel == ConsentChange.channel)
                & (Consent.topic == ConsentChange.topic),
            )
            .where(
                ConsentChange.tenant_id == session.tenant_id,
                ConsentChange.id == change_id,
                ConsentChange.status == "pending",
            )
            .execution_options(populate_existing=True)
        )
    ).one_or_none()
    if row is None:
        raise NotFoundError("Nothing is to be confirmed.")
    request: ConsentChange = row[0]
    state: State = "open"
    if row.withdrawn or row.status not in {"opted_in", "pending"}:
        state = "withdrawn"
    elif row.status == "opted_in" and not row.opted_out:
        state = "confirmed"
    elif row.expired:
        state = "expired"
    return Asked(request.id, request.person_id, request.channel, request.topic, request.wording, state)


async def confirm(
    session: TenantSession, change_id: UUID, *, address: str, evidence: Mapping[str, Any], by: Actor
) -> Asked:
    """Make a request that is open the person's opt-in, and the address the mail went to one that is proven theirs.

    Once is as good as twice; a request that is not open changes nothing. Return it with what has become of it.

    Raises:
        NotFoundError: there is no such request, or no such person any more.
    """
    request = await _locked(session, change_id)
    if request.state not in {"open", "confirmed"}:
        return request
    verified = await session.scalar(
        update(PersonIdentifier)
        .where(
            PersonIdentifier.tenant_id == session.tenant_id,
            PersonIdentifier.kind == "email",
            PersonIdentifier.value == address,
            PersonIdentifier.person_id == request.person_id,
        )
        .values(verified_at=func.coalesce(PersonIdentifier.verified_at, func.now()))
        .returning(PersonIdentifier.value)
    )
    if request.state == "confirmed":
        return request
    if verified is None:
        return Asked(request.id, request.person_id, request.channel, request.topic, request.wording, "withdrawn")
    choice = consent.Choice(
        cast("consent.Channel", request.channel),
        request.topic,
        "opted_in",
        source=SOURCE,
        wording=request.wording,
        evidence={**evidence, "change_id": str(request.id)},
        proof="proven",
    )
    if await consent.apply(session, request.person_id, [choice], by=by):
        await lifecycle.recompute(session, [request.person_id])
    return Asked(request.id, request.person_id, request.channel, request.topic, request.wording, "confirmed")


async def _locked(session: TenantSession, change_id: UUID) -> Asked:
    """Return the request as it stands once its person's row is held."""
    for _ in range(_ATTEMPTS):
        person_id = (await asked(session, change_id)).person_id
        await consent.lock(session, person_id)
        request = await asked(session, change_id)
        if request.person_id == person_id:
            return request
    raise NotFoundError("The person is being merged.")


async def history(
    session: TenantSession, person_id: UUID, *, limit: int, before: tuple[datetime, UUID] | None
) -> list[ConsentChange]:
    """Return up to `limit` entries of a person's ledger, newest first, those before the time and id given."""
    statement = (
        select(ConsentChange)
        .where(ConsentChange.tenant_id == session.tenant_id, ConsentChange.person_id == person_id)
        .order_by(ConsentChange.at.desc(), ConsentChange.id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(tuple_(ConsentChange.at, ConsentChange.id) < tuple_(*before))
    return list(await session.scalars(statement))
