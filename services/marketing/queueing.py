"""Queues messages for any number of people in one statement, and decides in it who may be sent to.

Whoever asks (a journey's node, a campaign, a single send) gives a SELECT of people; each of them gets one row of
`message` per dedupe key, `queued` or `excluded` with the reason. Queued rows are cut into pages, which senders lease
whole.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Uuid,
    and_,
    case,
    cast,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import insert as insert_or_skip

from core.database import TenantSession
from core.wake import MESSAGE_CHANNEL
from models import Consent, Message, MessagePage, Person, Suppression, TemplateVersion
from services.identity import consent

if TYPE_CHECKING:
    from sqlalchemy import CTE

PAGE_SIZE: Final = 500
"""Messages a sender leases at once: what the loss of a host can leave in doubt."""

TRANSACTIONAL, JOURNEY, BULK = 0, 1, 2
"""Priorities, lower first."""

Reason = Literal["no_address", "suppressed", "opted_out", "unconfirmed", "no_consent"]
"""Why somebody is excluded; the first that holds."""

_ADDRESS: Final = {"email": Person.email, "sms": Person.phone}


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """What was decided for one row of the source."""

    message_id: UUID
    person_id: UUID
    enrollment_id: UUID | None
    status: str
    """`queued` or `excluded`."""
    reason: str | None


@dataclass(frozen=True, slots=True)
class QueueResult:
    """What one call of `queue` wrote. A dedupe key used before adds nothing to any count."""

    queued: int
    excluded: dict[str, int] = field(default_factory=dict[str, int])
    """Number by reason."""
    messages: list[QueuedMessage] = field(default_factory=list[QueuedMessage])
    """One per row written, when asked for."""


async def queue(
    session: TenantSession,
    source: Select[Any, Any, Any, Any],
    *,
    channel: str,
    template_version: TemplateVersion,
    priority: int,
    returning: bool = False,
) -> QueueResult:
    """Write a message for each row of `source` whose dedupe key is new.

    `source` has the columns `person_id`, `dedupe_key`, `enrollment_id`, `campaign_id`, and binds the tenant itself.
    With `returning` the result lists every message written. Senders are woken once the transaction has committed.
    """
    queueing = statement(
        session.tenant_id,
        source,
        channel=channel,
        template_version=template_version,
        priority=priority,
        returning=returning,
    )
    return await run(session, queueing, {}, returning=returning)


async def run(
    session: TenantSession,
    queueing: Select[*tuple[Any, ...]],
    parameters: Mapping[str, Any],
    *,
    returning: bool = False,
) -> QueueResult:
    """Execute what `statement` made, with these values for the named parameters of its source."""
    rows = (await session.execute(queueing, dict(parameters))).all()
    messages: list[QueuedMessage] = []
    if returning:
        messages = [QueuedMessage(*row) for row in rows]
        counts = Counter((message.status, message.reason) for message in messages)
    else:
        counts = Counter({(status, reason): number for status, reason, number in rows})
    if counts["queued", None]:
        session.wake_after_commit(MESSAGE_CHANNEL)
    return QueueResult(
        queued=counts.pop(("queued", None), 0),
        excluded={reason: number for (_, reason), number in counts.items() if reason is not None},
        messages=messages,
    )


def statement(
    tenant_id: UUID,
    source: Select[Any, Any, Any, Any],
    *,
    channel: str,
    template_version: TemplateVersion,
    priority: int,
    returning: bool = False,
) -> Select[*tuple[Any, ...]]:
    """Return the one statement of `queue`, for who runs it often with other values in its source."""
    inserted = _inserted(tenant_id, source, channel, template_version)
    paged = (
        insert(MessagePage)
        .from_select(
            ["tenant_id", "id", "channel", "priority", "size"],
            select(
                literal(tenant_id),
                inserted.c.page_id,
                literal(channel),
                literal(priority),
                func.count(),
            )
            .where(inserted.c.page_id.is_not(None))
            .group_by(inserted.c.page_id),
        )
        .cte("paged")
    )
    if returning:
        written = inserted.c.id, inserted.c.person_id, inserted.c.enrollment_id, inserted.c.status, inserted.c.reason
        return select(*written).add_cte(paged)
    counted = select(inserted.c.status, inserted.c.reason, func.count())
    return counted.group_by(inserted.c.status, inserted.c.reason).add_cte(paged)


def _inserted(
    tenant_id: UUID,
    source: Select[Any, Any, Any, Any],
    channel: str,
    version: TemplateVersion,
) -> "CTE":
    """Return the CTE that inserts the messages and gives back what it wrote."""
    decided = _decided(tenant_id, source.cte("source"), channel, version)
    # Pages are numbered before they have ids, so that each id is made once.
    page = (
        select(decided.c.page, func.tl_uuid7().label("id"))
        .where(decided.c.reason.is_(None))
        .group_by(decided.c.page)
        .cte("page")
        .prefix_with("MATERIALIZED")
    )
    values = select(
        literal(tenant_id),
        func.tl_uuid7(),
        decided.c.person_id,
        literal(channel),
        decided.c.address,
        literal(version.id),
        decided.c.dedupe_key,
        decided.c.enrollment_id,
        decided.c.campaign_id,
        page.c.id,
        case((decided.c.reason.is_(None), "queued"), else_="excluded"),
        decided.c.reason,
    ).select_from(decided.outerjoin(page, and_(page.c.page == decided.c.page, decided.c.reason.is_(None))))
    return (
        insert_or_skip(Message)
        .from_select(
            [
                "tenant_id",
                "id",
                "person_id",
                "channel",
                "address",
                "template_version_id",
                "dedupe_key",
                "enrollment_id",
                "campaign_id",
                "page_id",
                "status",
                "reason",
            ],
            values,
        )
        .on_conflict_do_nothing(index_elements=[Message.tenant_id, Message.dedupe_key])
        .returning(
            Message.id, Message.person_id, Message.enrollment_id, Message.page_id, Message.status, Message.reason
        )
        .cte("inserted")
    )


def _decided(tenant_id: UUID, source: "CTE", channel: str, version: TemplateVersion) -> "CTE":
    """Return the CTE of the source's new rows with address, reason (null: send) and the number of their page.

    Each table is looked up by its key for each row, and LIMIT keeps it so: where the statistics lag behind a bulk load,
    a plain join becomes a nested loop over all of the tenant's rows (seen: 13 s in place of 0.3 s for 20,000 people).
    """
    person = (
        select(_ADDRESS[channel].label("address"))
        .where(Person.tenant_id == tenant_id, Person.id == source.c.person_id)
        .limit(1)
        .lateral("person")
    )
    suppression = (
        select(Suppression.reason)
        .where(
            Suppression.tenant_id == tenant_id,
            Suppression.channel == channel,
            Suppression.address == person.c.address,
        )
        .limit(1)
        .lateral("suppression")
    )
    known = (
        select(Message.id)
        .where(Message.tenant_id == tenant_id, Message.dedupe_key == source.c.dedupe_key)
        .limit(1)
        .lateral("known")
    )
    # Keys used before are left out here too, not by the conflict alone, so that pages come out full.
    rows = source.join(person, true()).outerjoin(known, true()).outerjoin(suppression, true())
    reasons: list[tuple[ColumnElement[bool], str]] = [
        (person.c.address.is_(None), "no_address"),
        (suppression.c.reason.is_not(None), "suppressed"),
    ]
    if version.purpose == "marketing":
        standing = (
            select(Consent.status)
            .where(
                Consent.tenant_id == tenant_id,
                Consent.person_id == source.c.person_id,
                consent.concerning(channel, version.topic),
            )
            .order_by(consent.STRICTEST)
            .limit(1)
            .lateral("consent")
        )
        rows = rows.outerjoin(standing, true())
        reasons += [
            (standing.c.status == "opted_out", "opted_out"),
            (standing.c.status == "pending", "unconfirmed"),
            (standing.c.status.is_(None), "no_consent"),
        ]
    reason = case(*reasons, else_=null())
    number = func.row_number().over(partition_by=reason.is_(None), order_by=source.c.dedupe_key)
    return (
        select(
            source.c.person_id,
            source.c.dedupe_key,
            # An untyped NULL is text by now.
            cast(source.c.enrollment_id, Uuid).label("enrollment_id"),
            cast(source.c.campaign_id, Uuid).label("campaign_id"),
            person.c.address,
            reason.label("reason"),
            ((number - 1) // literal_column(str(PAGE_SIZE), Integer)).label("page"),
        )
        .select_from(rows)
        .where(known.c.id.is_(None))
        .cte("decided")
        .prefix_with("MATERIALIZED")
    )
