"""Queues messages for any number of people in one statement, and decides in it who may be sent to.

Whoever asks (a journey's node, a campaign, a single send) gives a SELECT of people; each of them gets one row of
`message` per dedupe key, `queued` or `excluded` with the reason. Queued rows are cut into pages, which senders lease
whole.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Integer,
    Select,
    Text,
    Uuid,
    case,
    cast,
    func,
    insert,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import insert as insert_or_skip

from core.database import TenantSession
from core.wake import MESSAGE_CHANNEL
from models import Message, MessagePage, TemplateVersion
from services.marketing import eligibility, sending_rules, sending_rules_sql
from services.marketing.sending_rules import Hold, SendingRules

if TYPE_CHECKING:
    from sqlalchemy import CTE, Subquery
    from sqlalchemy.sql.elements import KeyedColumnElement

PAGE_SIZE: Final = 500
"""Messages a sender leases at once: what the loss of a host can leave in doubt."""

TRANSACTIONAL, JOURNEY, BULK = 0, 1, 2
"""Priorities, lower first."""

Reason = Literal["no_address", "suppressed", "opted_out", "unconfirmed", "no_consent", "capped", "budget"]
"""Why somebody is excluded; the first that holds. Callers may have reasons of their own, which come last."""


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


async def queue(  # noqa: PLR0913 - each is one more thing that all of its messages share
    session: TenantSession,
    source: Select[*tuple[Any, ...]],
    *,
    channel: str,
    template_version: TemplateVersion,
    priority: int,
    run_id: UUID | None = None,
    expires_at: datetime | None = None,
    limit: int | None = None,
    returning: bool = False,
) -> QueueResult:
    """Write a message for each row of `source` whose dedupe key is new.

    `source` has the columns `person_id`, `dedupe_key`, `enrollment_id`, `campaign_id`, and binds the tenant itself.
    It may have more, any of them null in any row:

    - `variant`, `tested`: as the message keeps them;
    - `template_version_id`: what this row renders; `template_version` is what purpose and topic are judged by;
    - `ready_at`: not sent before; `held_for`: not sent until released; `local_at`: not before the recipient's clock
      shows it. Messages that share these share pages;
    - `reason`: why the caller excludes it; kept where nothing else excludes it.

    With `returning` the result lists every message written. Senders are woken once the transaction has committed.

    A message whose template is transactional has that priority by itself. Nothing is sent after `expires_at`. With
    `limit` no more than so many are queued, first by key; the others are excluded with the reason `budget`.
    """
    rules = await sending_rules.of(session, channel=channel, purpose=template_version.purpose, run_id=run_id)
    queueing = statement(
        session.tenant_id,
        source,
        channel=channel,
        template_version=template_version,
        priority=priority,
        rules=rules,
        run_id=run_id,
        expires_at=expires_at,
        limit=limit,
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


def statement(  # noqa: PLR0913 - as `queue` has them
    tenant_id: UUID,
    source: Select[*tuple[Any, ...]],
    *,
    channel: str,
    template_version: TemplateVersion,
    priority: int,
    rules: SendingRules,
    run_id: UUID | None = None,
    expires_at: datetime | None = None,
    limit: int | None = None,
    returning: bool = False,
) -> Select[*tuple[Any, ...]]:
    """Return the one statement of `queue`, for who runs it often with other values in its source.

    `rules` are those of `sending_rules.of` in the transaction that executes it.
    """
    urgency = TRANSACTIONAL if template_version.purpose == "transactional" else priority
    people = eligibility.people_of(tenant_id, source.cte("source"), channel, template_version, rules)
    told = eligibility.judged(tenant_id, people, rules, channel, urgency)
    decided = _decided(told if limit is None else sending_rules_sql.limited(told, limit))
    inserted = _inserted(tenant_id, decided, channel, template_version, urgency, listed=returning)
    paged = _paged(
        inserted,
        decided,
        {
            "tenant_id": literal(tenant_id),
            "channel": literal(channel),
            "priority": literal(priority if priority == BULK else urgency),
            "run_id": literal(run_id, Uuid),
            "expires_at": literal(expires_at, DateTime(timezone=True)),
        },
        rules.hold,
    )
    if returning:
        written = inserted.c.id, inserted.c.person_id, inserted.c.enrollment_id, inserted.c.status, inserted.c.reason
        return select(*written).add_cte(paged)
    counted = select(inserted.c.status, inserted.c.reason, func.count())
    return counted.group_by(inserted.c.status, inserted.c.reason).add_cte(paged)


def _decided(judged: "Subquery") -> "CTE":
    """Return the CTE of the rows with their ids, and those that are to be sent with the page of each.

    A page has the id of its first message: the id of so many rows before is found in the order that is there already,
    where a number would have to be looked up in what is numbered.
    """
    # Postgres sorts once for both windows, as what they are ordered by are columns.
    goes = judged.c.reason.is_(None).label("goes")
    of_page: list[KeyedColumnElement[Any]] = [judged.c[name] for name in eligibility.OF_PAGE if name in judged.c]
    number = func.row_number().over(partition_by=[goes, *of_page], order_by=judged.c.dedupe_key)
    place = cast((number - 1) % literal_column(str(PAGE_SIZE), Integer), Integer).label("place")
    numbered = select(judged, goes, place, _id(number, judged.c.dedupe_key).label("id")).subquery("numbered")
    together: list[ColumnElement[Any]] = [numbered.c.goes, *(numbered.c[column.name] for column in of_page)]
    first = func.lag(numbered.c.id, numbered.c.place).over(partition_by=together, order_by=numbered.c.dedupe_key)
    return select(numbered, case((numbered.c.goes, first)).label("page_id")).cte("decided").prefix_with("MATERIALIZED")


def _id(number: ColumnElement[int], dedupe_key: ColumnElement[str]) -> ColumnElement[UUID]:
    """Return a UUID of version 7 for a row: a tenth of the work of `tl_uuid7`, which asks the kernel for each.

    Moment and version are those of one that the statement makes; its number follows, so that the index grows at its
    end, and a hash under a random seed, so that nobody knows one id by another.
    """
    begin = select(func.left(func.replace(cast(func.tl_uuid7(), Text), "-", ""), 17)).scalar_subquery()
    seed = select(func.hashtextextended(cast(func.tl_uuid7(), Text), cast(0, BigInteger))).scalar_subquery()
    hashed = func.to_hex(func.hashtextextended(dedupe_key, seed))
    counted = func.lpad(func.to_hex(number), 4, "0")
    return cast(func.concat(begin, counted, func.right(func.lpad(hashed, 16, "0"), 11)), Uuid)


def _paged(inserted: "CTE", decided: "CTE", shared: Mapping[str, ColumnElement[Any]], hold: Hold | None) -> "CTE":
    """Return the CTE that writes the pages of what was inserted; `shared` is what all of them have."""
    sized = (
        select(inserted.c.page_id, func.count().label("size"))
        .where(inserted.c.page_id.is_not(None))
        .group_by(inserted.c.page_id)
        .cte("sized")
    )
    of_page: list[KeyedColumnElement[Any]] = [decided.c[name] for name in eligibility.OF_PAGE if name in decided.c]
    page = select(decided.c.page_id, *of_page).where(decided.c.goes).group_by(decided.c.page_id, *of_page).cte("page")
    values: dict[str, Any] = {
        **shared,
        "id": sized.c.page_id,
        "size": sized.c.size,
        **{column.name: page.c[column.name] for column in of_page},
    }
    if hold is not None:
        values["held_for"] = _held(hold, page)
    return (
        insert(MessagePage)
        .from_select(list(values), select(*values.values()).join_from(sized, page, page.c.page_id == sized.c.page_id))
        .cte("paged")
    )


def _held(hold: Hold, page: "CTE") -> ColumnElement[Any]:
    """Return what pages are held for while their run is paused or cancelled: one that waits for a winner goes on to."""
    if hold == "pause" and "held_for" in page.c:
        return func.coalesce(page.c.held_for, hold)
    return literal(hold)


def _inserted(
    tenant_id: UUID,
    decided: "CTE",
    channel: str,
    version: TemplateVersion,
    urgency: int,
    *,
    listed: bool,
) -> "CTE":
    """Return the CTE that inserts the messages and gives back what it wrote, all that is `listed` or just how many."""
    values: dict[str, Any] = {
        "tenant_id": literal(tenant_id),
        "id": decided.c.id,
        "person_id": decided.c.person_id,
        "channel": literal(channel),
        "address": decided.c.address,
        "template_version_id": (
            func.coalesce(decided.c.template_version_id, literal(version.id))
            if "template_version_id" in decided.c
            else literal(version.id)
        ),
        "dedupe_key": decided.c.dedupe_key,
        "enrollment_id": decided.c.enrollment_id,
        "campaign_id": decided.c.campaign_id,
        "page_id": decided.c.page_id,
        "status": case((decided.c.reason.is_(None), "queued"), else_="excluded"),
        "reason": decided.c.reason,
        "priority": literal(urgency),
        **{name: decided.c[name] for name in eligibility.OF_MESSAGE if name in decided.c},
    }
    inserting = (
        insert_or_skip(Message)
        .from_select(list(values), select(*values.values()))
        .on_conflict_do_nothing(index_elements=[Message.tenant_id, Message.dedupe_key])
    )
    if not listed:  # each column more would be kept for all of them
        return inserting.returning(Message.page_id, Message.status, Message.reason).cte("inserted")
    return inserting.returning(
        Message.id, Message.person_id, Message.enrollment_id, Message.page_id, Message.status, Message.reason
    ).cte("inserted")
