"""The node that sends: one statement queues the messages of all members who stand there."""

from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Select, String, Uuid, cast, func, null, select

from core.database import TenantSession
from journeys.keeping_nodes import AddToSegmentNode, RemoveFromSegmentNode
from journeys.nodes import SendNode
from services.journeys import steps
from services.journeys.actions import COMMON
from services.journeys.members import ENROLLMENT, CohortMembers
from services.journeys.steps import Actions, Step, StepOutcome
from services.journeys.subjects import surroundings
from services.marketing import journey_segments, queueing, sending_rules, templates

JOURNEY_PRIORITY = 1


async def _send(session: TenantSession, step: Step, members: CohortMembers, node: SendNode) -> StepOutcome:
    done = await steps.pass_through(session, step, members, "done")
    sent = members.only(done.get("done", 0))
    if sent.mask:
        template = await templates.current(session, channel=node.channel, key=node.template)
        rules = await sending_rules.of(session, channel=node.channel, purpose=template.purpose)
        statement = step.version.statements.get(
            ("queue", *step.passage, sent.whole, template.id, rules),
            lambda: queueing.statement(
                session.tenant_id,
                _recipients(step, sent),
                channel=node.channel,
                template_version=template,
                priority=JOURNEY_PRIORITY,
                rules=rules,
            ),
        )
        await queueing.run(session, statement, sent.parameters())
        if step.version.definition.subject != "person":
            await _note_unsent(session, step, sent)
    return StepOutcome(outcomes=done)


async def _note_unsent(session: TenantSession, step: Step, members: CohortMembers) -> None:
    """Have the steps of deals without a person say that nobody was there to send to."""
    around = surroundings(step.version.definition, session.tenant_id)
    alone = (
        select(ENROLLMENT.c.id)
        .select_from(around.source)
        .where(around.person_id.is_(None), *members.within(ENROLLMENT))
    )
    await steps.note(session, step, {each: {"not_sent": "no_person"} for each in await session.scalars(alone)})


def _recipients(step: Step, members: CohortMembers) -> Select[Any, Any, Any, Any]:
    around = surroundings(step.version.definition, members.tenant_id)
    return (
        select(
            around.person_id.label("person_id"),
            func.concat("journey:", cast(ENROLLMENT.c.id, String), f":{step.node}:{step.visit}").label("dedupe_key"),
            ENROLLMENT.c.id.label("enrollment_id"),
            null().cast(Uuid).label("campaign_id"),
        )
        .select_from(around.source)
        .where(around.person_id.is_not(None), *members.within(ENROLLMENT))
    )


ACTIONS: Final[Actions] = MappingProxyType(
    {
        **COMMON,
        SendNode: _send,
        AddToSegmentNode: journey_segments.add,
        RemoveFromSegmentNode: journey_segments.remove,
    }
)
"""What the nodes do that run on marketing's queue."""
