"""The node that sends: one statement queues the messages of all members who stand there."""

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Select, String, Text, Uuid, cast, func, literal, null, select
from sqlalchemy.dialects.postgresql import JSONB

from core.database import TenantSession
from journeys.keeping_nodes import AddToSegmentNode, RemoveFromSegmentNode
from journeys.sending import VARIANT, SendNode, Variant
from models import TemplateVersion
from services.journeys import splitting, steps
from services.journeys.actions import COMMON
from services.journeys.members import ENROLLMENT, CohortMembers
from services.journeys.moving import Leaving, move, standing
from services.journeys.onward import Through
from services.journeys.steps import Actions, Step, StepOutcome
from services.journeys.subjects import surroundings
from services.marketing import journey_segments, queueing, sending_rules, templates
from services.marketing.outcomes import message_tests

JOURNEY_PRIORITY = 1


@dataclass(frozen=True, slots=True)
class _Trial:
    """What the message of a variant keeps of that."""

    number: int
    """Of the variant, from 0."""
    tested: bool | None
    """Whether it is of the test, and not of those who get what won; null where no winner is asked for."""


async def _send(session: TenantSession, step: Step, members: CohortMembers, node: SendNode) -> StepOutcome:
    if node.variants is not None:
        return await _send_variants(session, step, members, node, node.variants)
    done = await steps.pass_through(session, step, members, "done")
    sent = members.only(done.get("done", 0))
    if sent.mask:
        template = await templates.current(session, channel=node.channel, key=node.template or "")
        await _queue(session, step, sent, template, channel=node.channel)
    return StepOutcome(outcomes=done)


async def _send_variants(
    session: TenantSession, step: Step, members: CohortMembers, node: SendNode, variants: tuple[Variant, ...]
) -> StepOutcome:
    """Send each the variant that has won, or that chance gives them; their steps say which, and of what template."""
    test = await message_tests.standing(session, step, node)
    texts = {
        variant.key: await templates.current(session, channel=node.channel, key=variant.template)
        for variant in variants
    }
    won = None if test is None else test.winner
    details: dict[str, dict[str, Any]] = {
        key: {"variant": key, "template_version": str(version.id)} for key, version in texts.items()
    }
    if won is not None:
        details[won]["winner"] = True
    elif test is not None and not test.decided:
        for detail in details.values():
            detail["test"] = str(test.id)

    def leaving() -> Any:  # noqa: ANN401 - a select
        drawn = splitting.drawn(step.version.journey_id, step.node, variants)
        variant = literal(won, Text) if won is not None else drawn
        detail = func.jsonb_extract_path(literal(details, JSONB), variant, type_=JSONB)
        return standing(
            members, *step.passage, func.concat(VARIANT, variant).label("outcome"), detail.label("detail")
        ).select_from(ENROLLMENT)

    how = ("variants", json.dumps(details, sort_keys=True), won)
    moved = await move(
        session, step.version, members, Leaving(*step.passage, how=how, select=leaving), attempt=step.attempt
    )
    for number, (key, template) in enumerate(texts.items()):
        sent = members.only(moved.get(f"{VARIANT}{key}", 0))
        if sent.mask:
            trial = _Trial(number, None if test is None else "test" in details[key])
            await _queue(session, step, sent, template, channel=node.channel, trial=trial)
    return StepOutcome(outcomes=moved)


async def _queue(
    session: TenantSession,
    step: Step,
    sent: CohortMembers,
    template: TemplateVersion,
    *,
    channel: str,
    trial: _Trial | None = None,
) -> None:
    rules = await sending_rules.of(session, channel=channel, purpose=template.purpose)
    statement = step.version.statements.get(
        ("queue", *step.passage, sent.whole, template.id, rules, trial),
        lambda: queueing.statement(
            session.tenant_id,
            _recipients(step, sent, trial),
            channel=channel,
            template_version=template,
            priority=JOURNEY_PRIORITY,
            rules=rules,
        ),
    )
    await queueing.run(session, statement, sent.parameters())
    if step.version.definition.subject != "person":
        await _note_unsent(session, step, sent)


async def _note_unsent(session: TenantSession, step: Step, members: CohortMembers) -> None:
    """Have the steps of deals without a person say that nobody was there to send to."""
    around = surroundings(step.version.definition, session.tenant_id)
    alone = (
        select(ENROLLMENT.c.id)
        .select_from(around.source)
        .where(around.person_id.is_(None), *members.within(ENROLLMENT))
    )
    await steps.note(session, step, {each: {"not_sent": "no_person"} for each in await session.scalars(alone)})


def _recipients(step: Step, members: CohortMembers, trial: _Trial | None) -> Select[*tuple[Any, ...]]:
    around = surroundings(step.version.definition, members.tenant_id)
    tried = [] if trial is None else [literal(trial.number).label("variant"), literal(trial.tested).label("tested")]
    return (
        select(
            around.person_id.label("person_id"),
            func.concat("journey:", cast(ENROLLMENT.c.id, String), f":{step.node}:{step.visit}").label("dedupe_key"),
            ENROLLMENT.c.id.label("enrollment_id"),
            null().cast(Uuid).label("campaign_id"),
            *tried,
        )
        .select_from(around.source)
        .where(around.person_id.is_not(None), *members.within(ENROLLMENT))
    )


ACTIONS: Final[Actions] = MappingProxyType(
    {
        **COMMON,
        SendNode: _send,
        AddToSegmentNode: Through(journey_segments.keep, alone=True),
        RemoveFromSegmentNode: Through(journey_segments.keep, alone=True),
    }
)
"""What the nodes do that run on marketing's queue."""
