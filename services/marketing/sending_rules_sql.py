"""The rules of sending as SQL, for all whom a statement queues for."""

from datetime import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    DateTime,
    Integer,
    Text,
    Time,
    Uuid,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
)

from models import Message, MessagePage
from services.marketing.sending_rules import LONGEST_WAIT, Quiet, SendingRules

if TYPE_CHECKING:
    from sqlalchemy import CTE, Subquery
    from sqlalchemy.sql.selectable import LateralFromClause

_INSTANT = DateTime(timezone=True)
_LOCAL = DateTime(timezone=False)


def moments(people: "CTE", rules: SendingRules) -> "CTE":
    """Return a CTE of when messages go that are to go at `ready_at` to somebody in `time_zone`, one row for each pair.

    Its columns are the two, `go_at` after quiet hours, and for caps `since_0`, `since_1`, ... (where the days of each
    begin), `until` (where the day of `go_at` ends), and `first_id`, before which no message counts.
    """
    pair = select(people.c.time_zone, people.c.ready_at).distinct().cte("pair")
    otherwise = func.tl_known_zone(literal(rules.time_zone, Text), "UTC", type_=Text)
    zone = func.tl_known_zone(func.nullif(pair.c.time_zone, ""), otherwise, type_=Text).label("zone")
    placed = select(pair.c.time_zone, pair.c.ready_at, zone).cte("placed").prefix_with("MATERIALIZED")
    columns: list[ColumnElement[Any]] = [placed.c.time_zone, placed.c.ready_at, placed.c.zone]
    going = placed.c.ready_at if rules.quiet is None else _after(rules.quiet, placed.c.ready_at, placed.c.zone)
    timed = select(*columns, going.label("go_at")).cte("timed").prefix_with("MATERIALIZED")
    day = cast(func.timezone(timed.c.zone, timed.c.go_at, type_=_LOCAL), Date)
    of_caps: list[ColumnElement[Any]] = []
    if rules.caps:
        starts = [_begin(day - literal_column(str(cap.days - 1), Integer), timed.c.zone) for cap in rules.caps]
        first = func.least(*starts) - literal(LONGEST_WAIT)
        milliseconds = cast(func.floor(func.extract("epoch", first) * 1000), BigInteger)
        of_caps = [
            *(start.label(f"since_{number}") for number, start in enumerate(starts)),
            _begin(day + literal_column("1", Integer), timed.c.zone).label("until"),
            # ids are UUIDs of version 7: they begin with the time
            cast(func.lpad(func.to_hex(milliseconds), 12, "0") + "7000" + "8" + "0" * 15, Uuid).label("first_id"),
        ]
    return select(timed, *of_caps).cte("moment").prefix_with("MATERIALIZED")


def counted(
    tenant_id: UUID, people: "CTE", moment: "CTE", rules: SendingRules, *, channel: str, urgency: int
) -> "LateralFromClause":
    """Return how many messages count for each cap (`number_0`, `number_1`, ...) of a person who may be sent to.

    Those sent within its days count, and those that wait to be sent by the end of them and are at least as urgent.
    """
    page_at = (
        select(MessagePage.ready_at)
        .where(MessagePage.tenant_id == tenant_id, MessagePage.id == Message.page_id)
        .limit(1)
        .correlate(Message)
        .scalar_subquery()
    )
    waits = and_(Message.priority <= urgency, func.coalesce(page_at < moment.c.until, True))
    sent_at = func.coalesce(Message.sent_at, Message.created_at)
    numbers = (
        func.count()
        .filter(case((Message.status == "queued", waits), else_=sent_at >= moment.c[f"since_{number}"]))
        .label(f"number_{number}")
        for number in range(len(rules.caps))
    )
    return (
        select(*numbers)
        .where(
            Message.tenant_id == tenant_id,
            Message.person_id == people.c.person_id,
            Message.id >= moment.c.first_id,
            Message.channel == channel,
            Message.priority > 0,
            Message.status.not_in(("excluded", "failed")),
            people.c.barred.is_(None),
        )
        .correlate(people, moment)
        .lateral("counted")
    )


def over(rules: SendingRules, counts: "LateralFromClause", more: ColumnElement[int]) -> ColumnElement[bool]:
    """Return whether `more` messages beside those counted are too many."""
    return or_(*(counts.c[f"number_{number}"] + more > cap.messages for number, cap in enumerate(rules.caps)))


def _after(quiet: Quiet, moment: ColumnElement[Any], zone: ColumnElement[str]) -> ColumnElement[Any]:
    local = func.timezone(zone, moment, type_=_LOCAL)
    clock, day = cast(local, Time), cast(local, Date)
    start, end = _clock(quiet.start), _clock(quiet.end)
    today = func.timezone(zone, day + end, type_=_INSTANT)
    if quiet.start <= quiet.end:
        return case((and_(clock >= start, clock < end), today), else_=moment)
    tomorrow = func.timezone(zone, day + literal_column("1", Integer) + end, type_=_INSTANT)
    return case((clock < end, today), (clock >= start, tomorrow), else_=moment)


def _begin(day: ColumnElement[Any], zone: ColumnElement[str]) -> ColumnElement[Any]:
    return func.timezone(zone, cast(day, _LOCAL), type_=_INSTANT)


def _clock(clock: time) -> ColumnElement[Any]:
    return literal(clock, Time)


def limited(judged: "Subquery", limit: int) -> "Subquery":
    """Return the rows with all but the first `limit` of those that nothing excludes excluded for the budget."""
    number = func.row_number().over(partition_by=judged.c.reason.is_(None), order_by=judged.c.dedupe_key)
    reason = case((and_(judged.c.reason.is_(None), number > limit), literal("budget", Text)), else_=judged.c.reason)
    others = [column for column in judged.c if column.name != "reason"]
    return select(*others, reason.label("reason")).subquery("limited")
