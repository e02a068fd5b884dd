"""Roles and lifecycle stage, computed from facts: computing them again, in any order of facts, gives the same.

| role | facts |
| --- | --- |
| customer | an order placed and not wholly refunded, or a won deal whose primary person it is |
| lead | a submitted form, at any time; or by hand |
| contact | a link to an organization that holds today, or to a deal; or by hand |
| vendor, employee | a link of that kind that holds today; or by hand |

The stage is the highest that a fact gives: `customer`, `opportunity` (the primary person of an open deal), `qualified`
(by hand, or by score), `lead`, `subscriber` (an opt-in on any channel), else `visitor`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import CursorResult, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from contracts.events import (
    CART_UPDATED,
    FORM_SUBMITTED,
    ORDER_PLACED,
    PAGE_VIEWED,
    PERSON_SEEN,
    PERSON_STAGE_CHANGED,
    PERSON_UPDATED,
)
from core.database import TenantSession
from models import Person
from models.identity import ROLES, STAGES
from models.organizations import LINK_KINDS
from services.events.bus import Consumer, EventRow
from services.events.publish import NewEvent, publish

SEEN_TYPES: Final = frozenset({PAGE_VIEWED, FORM_SUBMITTED, CART_UPDATED, ORDER_PLACED})
"""Events that a person causes by being there; a tenant's own types may be written by a machine about them."""

_people = bindparam("people", type_=ARRAY(Uuid))

# Facts are written before the lock is taken and read after it, by a statement of its own: of two transactions that
# change facts of one person, the second to get the lock sees those of the first. The order keeps locks from crossing.
_LOCK = text("""
    SELECT id FROM person WHERE tenant_id = :tenant AND id = ANY(:people) ORDER BY id FOR NO KEY UPDATE
""").bindparams(_people)

_RECOMPUTE = text("""
    WITH fact AS (
      SELECT p.id, p.lifecycle_stage AS old_stage, p.qualified_at,
             coalesce(p.score >= (SELECT t.qualify_at_score FROM tenant t WHERE t.id = :tenant), false) AS scored,
             p.is_customer, p.is_lead, p.is_contact, p.is_vendor,
             p.is_employee,
             EXISTS (SELECT FROM commerce_order_facts o
                     WHERE o.tenant_id = :tenant AND o.person_id = p.id AND o.counts)
               OR EXISTS (SELECT FROM crm_deal_people d
                          WHERE d.tenant_id = :tenant AND d.person_id = p.id AND d.is_primary
                            AND d.status = 'won') AS customer,
             EXISTS (SELECT FROM crm_deal_people d
                     WHERE d.tenant_id = :tenant AND d.person_id = p.id AND d.is_primary
                       AND d.status = 'open') AS opportunity,
             'lead' = ANY(p.roles_by_hand)
               OR EXISTS (SELECT FROM event e
                          WHERE e.tenant_id = :tenant AND e.person_id = p.id AND e.type = 'form.submitted') AS lead,
             'contact' = ANY(p.roles_by_hand)
               OR EXISTS (SELECT FROM organization_current_people l
                          WHERE l.tenant_id = :tenant AND l.person_id = p.id)
               OR EXISTS (SELECT FROM crm_deal_people l
                          WHERE l.tenant_id = :tenant AND l.person_id = p.id) AS contact,
             'vendor' = ANY(p.roles_by_hand)
               OR EXISTS (SELECT FROM organization_current_people l
                          WHERE l.tenant_id = :tenant AND l.person_id = p.id AND l.kind = 'vendor') AS vendor,
             'employee' = ANY(p.roles_by_hand)
               OR EXISTS (SELECT FROM organization_current_people l
                          WHERE l.tenant_id = :tenant AND l.person_id = p.id AND l.kind = 'employee') AS employee,
             EXISTS (SELECT FROM consent c
                     WHERE c.tenant_id = :tenant AND c.person_id = p.id AND c.status = 'opted_in' AND c.topic <> 'all'
                       AND NOT EXISTS (SELECT FROM consent o
                                       WHERE o.tenant_id = :tenant AND o.person_id = p.id AND o.channel = c.channel
                                         AND o.topic = 'all' AND o.status = 'opted_out')) AS subscribed
      FROM person p
      WHERE p.tenant_id = :tenant AND p.id = ANY(:people)
    ),
    result AS (
      SELECT *, CASE WHEN customer THEN 'customer'
                     WHEN opportunity THEN 'opportunity'
                     WHEN qualified_at IS NOT NULL OR scored THEN 'qualified'
                     WHEN lead THEN 'lead'
                     WHEN subscribed THEN 'subscriber'
                     ELSE 'visitor' END AS stage
      FROM fact
    )
    UPDATE person p
    SET is_customer = r.customer, is_lead = r.lead, is_contact = r.contact, is_vendor = r.vendor,
        is_employee = r.employee, lifecycle_stage = r.stage, updated_at = now()
    FROM result r
    WHERE p.tenant_id = :tenant AND p.id = r.id
      AND (p.is_customer, p.is_lead, p.is_contact, p.is_vendor, p.is_employee, p.lifecycle_stage)
        IS DISTINCT FROM (r.customer, r.lead, r.contact, r.vendor, r.employee, r.stage)
    RETURNING p.id, r.old_stage, r.stage,
              array_remove(ARRAY[CASE WHEN r.is_customer <> r.customer THEN 'is_customer' END,
                                 CASE WHEN r.is_lead <> r.lead THEN 'is_lead' END,
                                 CASE WHEN r.is_contact <> r.contact THEN 'is_contact' END,
                                 CASE WHEN r.is_vendor <> r.vendor THEN 'is_vendor' END,
                                 CASE WHEN r.is_employee <> r.employee THEN 'is_employee' END], NULL) AS roles
""").bindparams(_people)

# Told only where somebody asks for it: else it would double the events of a busy website.
_SEEN = text(f"""
    WITH seen AS (
      UPDATE person p
      SET last_seen_at = s.at
      FROM unnest(CAST(:people AS uuid[]), CAST(:times AS timestamptz[])) AS s(id, at)
      WHERE p.tenant_id = :tenant AND p.id = s.id
        AND (p.last_seen_at IS NULL OR p.last_seen_at < s.at - interval '5 minutes')
      RETURNING p.id
    )
    INSERT INTO event (tenant_id, id, type, subject_id, person_id)
    SELECT :tenant AS tenant_id, tl_uuid7(), '{PERSON_SEEN}', id, id FROM seen
    WHERE EXISTS (SELECT FROM marketing_segment_interests i
                  WHERE i.tenant_id = :tenant AND i.kind = 'field' AND i.name = 'last_seen_at')
""")  # noqa: S608 - a constant of ours


# Links begin and end by their dates, which no write tells of.
_STALE = text("""
    SELECT p.id
    FROM person p
    JOIN LATERAL (
      SELECT count(*) > 0 AS contact,
             count(*) FILTER (WHERE l.kind = 'vendor') > 0 AS vendor,
             count(*) FILTER (WHERE l.kind = 'employee') > 0 AS employee
      FROM organization_current_people l
      WHERE l.tenant_id = :tenant AND l.person_id = p.id
    ) l ON true
    WHERE p.tenant_id = :tenant
      AND p.id IN (SELECT d.person_id FROM organization_person d
                   WHERE d.tenant_id = :tenant AND (d.started_on IS NOT NULL OR d.ended_on IS NOT NULL))
      AND (p.is_contact, p.is_vendor, p.is_employee) IS DISTINCT FROM
          ('contact' = ANY(p.roles_by_hand) OR l.contact
             OR EXISTS (SELECT FROM crm_deal_people d WHERE d.tenant_id = :tenant AND d.person_id = p.id),
           'vendor' = ANY(p.roles_by_hand) OR l.vendor,
           'employee' = ANY(p.roles_by_hand) OR l.employee)
    ORDER BY p.id LIMIT :limit
""")


async def lock(session: TenantSession, person_ids: Sequence[UUID]) -> set[UUID]:
    """Hold these people against other changes until the transaction ends; return those that there are."""
    if not person_ids:
        return set()
    rows = await session.execute(_LOCK, {"tenant": session.tenant_id, "people": sorted(set(person_ids))})
    return {row.id for row in rows}


async def of_dated_links(session: TenantSession, *, limit: int) -> list[UUID]:
    """Return up to `limit` people whose roles are no longer right, as a link of theirs has begun or ended."""
    rows = await session.execute(_STALE, {"tenant": session.tenant_id, "limit": limit})
    return [row.id for row in rows]


async def recompute(session: TenantSession, person_ids: Sequence[UUID], *, quiet: Collection[UUID] = ()) -> None:
    """Bring roles and stage of these people in line with their facts, and report what changed.

    Publishes `person.stage_changed` `{from, to}` where the stage changed and `person.updated` `{fields}` where roles
    did. For people in `quiet` the events are not live: their facts are old or backfilled, and start nothing.

    Call it after the facts are written: it locks the people's rows until the transaction ends.
    """
    if not person_ids:
        return
    values = {"tenant": session.tenant_id, "people": sorted(set(person_ids))}
    await session.execute(_LOCK, values)
    changed = (await session.execute(_RECOMPUTE, values)).all()
    events: list[NewEvent] = []
    for row in sorted(changed, key=lambda row: row.id):
        live = row.id not in quiet
        if row.roles:
            events.append(NewEvent(PERSON_UPDATED, row.id, properties={"fields": row.roles}, live=live))
        if row.stage != row.old_stage:
            move = {"from": row.old_stage, "to": row.stage}
            events.append(NewEvent(PERSON_STAGE_CHANGED, row.id, properties=move, live=live))
    await publish(session, events)


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Take in what people did: a submitted form makes a lead, and being there is remembered.

    `last_seen_at` only moves forward, and in steps of five minutes or more: a burst of events writes a person once.
    """
    forms = {event.person_id for event in events if event.type == FORM_SUBMITTED and event.person_id is not None}
    live = {event.person_id for event in events if event.type == FORM_SUBMITTED and event.live}
    seen: dict[UUID, EventRow] = {}
    for event in events:
        if event.person_id is None or event.type not in SEEN_TYPES:
            continue
        last = seen.get(event.person_id)
        if last is None or event.occurred_at > last.occurred_at:
            seen[event.person_id] = event
    if seen:
        people = sorted(seen)
        await session.execute(_LOCK, {"tenant": session.tenant_id, "people": people})
        times = [seen[person].occurred_at for person in people]
        told = await session.execute(_SEEN, {"tenant": session.tenant_id, "people": people, "times": times})
        if cast("CursorResult[Any]", told).rowcount:
            session.wake_after_commit()
    await recompute(session, sorted(forms), quiet=forms - live)


CONSUMER: Final = Consumer("lifecycle", handle, SEEN_TYPES)


_FACTS = text("""
    (SELECT 'order' AS fact, o.order_key AS reference, o.placed_at AS at
     FROM commerce_order_facts o WHERE o.tenant_id = :tenant AND o.person_id = :person AND o.counts
     ORDER BY o.placed_at LIMIT 1)
    UNION ALL
    (SELECT 'deal.won', d.id::text, d.closed_at
     FROM crm_deal_facts d WHERE d.tenant_id = :tenant AND d.person_id = :person AND d.status = 'won'
     ORDER BY d.closed_at, d.id LIMIT 1)
    UNION ALL
    (SELECT 'deal.open', d.id::text, d.created_at
     FROM crm_deal_facts d WHERE d.tenant_id = :tenant AND d.person_id = :person AND d.status = 'open'
     ORDER BY d.created_at, d.id LIMIT 1)
    UNION ALL
    (SELECT 'deal', l.deal_id::text, d.created_at
     FROM crm_deal_people l JOIN crm_deal_facts d ON d.tenant_id = :tenant AND d.id = l.deal_id
     WHERE l.tenant_id = :tenant AND l.person_id = :person
     ORDER BY d.created_at, d.id LIMIT 1)
    UNION ALL
    (SELECT 'form.submitted', e.id::text, e.occurred_at
     FROM event e WHERE e.tenant_id = :tenant AND e.person_id = :person AND e.type = 'form.submitted'
     ORDER BY e.occurred_at LIMIT 1)
    UNION ALL
    (SELECT 'consent', c.channel || ':' || c.topic, c.changed_at
     FROM consent c WHERE c.tenant_id = :tenant AND c.person_id = :person AND c.status = 'opted_in' AND c.topic <> 'all'
       AND NOT EXISTS (SELECT FROM consent o
                       WHERE o.tenant_id = :tenant AND o.person_id = :person AND o.channel = c.channel
                         AND o.topic = 'all' AND o.status = 'opted_out')
     ORDER BY c.changed_at LIMIT 1)
    UNION ALL
    (SELECT DISTINCT ON (l.kind) 'organization.' || l.kind, l.organization_id::text, l.created_at
     FROM organization_current_people l WHERE l.tenant_id = :tenant AND l.person_id = :person
     ORDER BY l.kind, l.created_at)
    UNION ALL
    (SELECT 'score', p.score::text, NULL
     FROM person p WHERE p.tenant_id = :tenant AND p.id = :person
       AND p.score >= (SELECT t.qualify_at_score FROM tenant t WHERE t.id = :tenant))
""")


@dataclass(frozen=True, slots=True)
class Fact:
    """Why a role or a stage holds."""

    fact: str
    """`order`, `deal.won`, `deal.open`, `deal`, `form.submitted`, `consent`, `organization.KIND`, `score` or
    `by_hand`."""
    reference: str | None
    """The order's key, the deal's or event's id, `channel:topic`, the organization's id, or the score."""
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The earliest fact of each kind behind every role and every stage; an empty list where it does not hold."""

    lifecycle_stage: str
    roles: dict[str, list[Fact]]
    stages: dict[str, list[Fact]]


async def explain(session: TenantSession, person: Person) -> Explanation:
    """Say which facts give the person its roles and its stage."""
    rows = await session.execute(_FACTS, {"tenant": session.tenant_id, "person": person.id})
    facts = {row.fact: [Fact(row.fact, row.reference, row.at)] for row in rows}
    roles = {role: [Fact("by_hand", None, None)] if role in person.roles_by_hand else [] for role in ROLES}
    roles["customer"] = facts.get("order", []) + facts.get("deal.won", [])
    roles["lead"] = facts.get(FORM_SUBMITTED, []) + roles["lead"]
    links = {kind: facts.get(f"organization.{kind}", []) for kind in LINK_KINDS}
    of_links = [fact for found in links.values() for fact in found]
    roles["contact"] = of_links + facts.get("deal", []) + roles["contact"]
    for kind in ("vendor", "employee"):
        roles[kind] = links[kind] + roles[kind]
    stages: dict[str, list[Fact]] = {stage: [] for stage in STAGES}
    stages["subscriber"] = facts.get("consent", [])
    stages["lead"] = roles["lead"]
    stages["qualified"] = [Fact("by_hand", None, person.qualified_at)] if person.qualified_at else []
    stages["qualified"] += facts.get("score", [])
    stages["opportunity"] = facts.get("deal.open", [])
    stages["customer"] = roles["customer"]
    return Explanation(person.lifecycle_stage, roles, stages)
