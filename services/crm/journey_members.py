"""The members of a cohort who passed a node of sales, with what such nodes need to know of each."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import null, select
from sqlalchemy.types import Text, Uuid

from core.actor import Actor
from core.database import TenantSession
from journeys.command_nodes import OWNER
from journeys.texts import MAX_NOTE, MAX_TITLE, PlacedText
from models import UserAccount
from services.journeys.members import ENROLLMENT, CohortMembers
from services.journeys.steps import Step
from services.journeys.subjects import surroundings
from services.journeys.texts import filled

Detail = Mapping[str, Any]
"""What the step keeps of what came of a member."""
LONGEST: Final = {"title": MAX_TITLE}


class Member(NamedTuple):
    """One who passed the node."""

    id: UUID
    """Of the enrollment."""
    slot: int
    person_id: UUID | None
    deal_id: UUID | None
    organization_id: UUID | None
    owner_id: UUID | None
    """The deal's owner, or in a journey of people the person's; None too where that teammate is disabled."""
    pipeline: str | None
    source_key: str
    """Names what the node makes for this member on this visit: it is made once."""
    texts: Mapping[str, str]
    """The node's texts, filled in."""


async def passed(
    session: TenantSession, step: Step, members: CohortMembers, texts: Mapping[str, PlacedText | None]
) -> list[Member]:
    """Return members in the order of their slots; one whose deal is gone is not among them."""
    around = surroundings(step.version.definition, session.tenant_id)
    wanted = {name: text for name, text in texts.items() if text is not None}
    none = null().cast(Uuid)
    deal = around.deal
    owner_id = around.person.c.owner_id if deal is None else deal.c.owner_id
    here = (UserAccount.tenant_id == session.tenant_id) & (UserAccount.id == owner_id)
    rows = await session.execute(
        select(
            ENROLLMENT.c.id,
            ENROLLMENT.c.slot,
            around.person_id.label("person_id"),
            (none if deal is None else deal.c.id).label("deal_id"),
            (none if deal is None else deal.c.organization_id).label("organization_id"),
            UserAccount.id.label("owner_id"),
            (null().cast(Text) if deal is None else deal.c.pipeline_key).label("pipeline"),
            *(
                filled(text, around.scope, most=LONGEST.get(name, MAX_NOTE)).label(f"text_{name}")
                for name, text in wanted.items()
            ),
        )
        .select_from(around.source.join(UserAccount, here & UserAccount.disabled_at.is_(None), isouter=True))
        .where(*members.within(ENROLLMENT))
        .order_by(ENROLLMENT.c.slot)
    )
    return [_member(row, tuple(wanted), f"{step.node}:{step.visit}") for row in rows]


def _member(row: Any, texts: Sequence[str], passage: str) -> Member:  # noqa: ANN401 - a row of `passed`
    # By their places: the columns of thousands of rows are not looked up by their names.
    enrollment_id, slot, person_id, deal_id, organization_id, owner_id, pipeline, *filled_in = row
    return Member(
        enrollment_id,
        slot,
        person_id,
        deal_id,
        organization_id,
        owner_id,
        pipeline,
        f"journey:{enrollment_id}:{passage}",
        dict(zip(texts, filled_in, strict=True)),
    )


def actor(step: Step) -> Actor:
    """Return who does what the node does."""
    return Actor.journey(step.version.journey_id)


async def teammates(session: TenantSession, addresses: Sequence[str]) -> dict[str, UUID]:
    """Return the ids of these teammates by address, without those who are disabled or gone."""
    rows = await session.execute(
        select(UserAccount.email, UserAccount.id).where(
            UserAccount.tenant_id == session.tenant_id,
            UserAccount.email.in_(sorted(set(addresses) - {OWNER})),
            UserAccount.disabled_at.is_(None),
        )
    )
    return {row.email: row.id for row in rows}
