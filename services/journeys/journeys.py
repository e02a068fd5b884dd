"""Journeys: drafts, publishing, and the three switches pause, resume and cancel."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from journeys.checking import Problem
from journeys.definition import JourneyDefinition
from journeys.validation import InvalidDefinition, parse, validate
from models import Journey, JourneyListener, JourneyVersion, Template, TemplateVersion
from services.journeys import by_clock, endings, hearing, holding, named, vocabulary
from services.journeys.holding import Overdue, What
from services.journeys.members import ENROLLMENT
from services.shared import activity


async def create(
    session: TenantSession,
    *,
    key: str,
    name: str,
    definition: Mapping[str, Any],
    by: Actor,
    domain: Literal["marketing", "crm"] = "marketing",
) -> Journey:
    """Create a journey with its first draft. Only a stage's automation is of the domain `crm`.

    Raises:
        InvalidError: the definition is malformed or could never be published; each problem names its place.
        ConflictError: the key is taken.
    """
    await checked(session, definition, key=key)
    journey = Journey(
        tenant_id=session.tenant_id,
        id=new_id(),
        key=key,
        name=name,
        domain=domain,
        status="draft",
        draft=dict(definition),
    )
    try:
        async with session.begin_nested():
            session.add(journey)
            await session.flush()
    except IntegrityError as error:
        raise ConflictError(
            f"there is a journey with the key {key} already", errors=[FieldProblem("key", "is taken")]
        ) from error
    await _record(session, journey, "journey.created", {"key": (None, key), "name": (None, name)}, by)
    await session.refresh(journey)
    return journey


async def find(session: TenantSession, id_or_key: str) -> Journey:
    """Return a journey by its id or key.

    Raises:
        NotFoundError: the tenant has none.
    """
    query = select(Journey).where(Journey.tenant_id == session.tenant_id)
    journey = None
    with suppress(ValueError):
        journey = await session.scalar(query.where(Journey.id == UUID(id_or_key)))
    if journey is None:  # a key may look like an id
        journey = await session.scalar(query.where(Journey.key == id_or_key))
    if journey is None:
        raise NotFoundError(f"there is no journey {id_or_key}")
    return journey


async def authored(session: TenantSession, id_or_key: str) -> Journey:
    """Return a journey that is its author's to change.

    Raises:
        NotFoundError: the tenant has none.
        ConflictError: it is what a pipeline's stage does, and is changed with that.
    """
    journey = await find(session, id_or_key)
    if journey.domain == "crm":
        raise ConflictError("the journey is the automation of a pipeline's stage: change it there")
    return journey


async def page(
    session: TenantSession, *, after: UUID | None, limit: int, domain: str = "marketing"
) -> Sequence[Journey]:
    """Return journeys, newest first, older than `after`."""
    of_domain = (Journey.tenant_id == session.tenant_id, Journey.domain == domain)
    query = select(Journey).where(*of_domain).order_by(Journey.id.desc()).limit(limit)
    if after is not None:
        query = query.where(Journey.id < after)
    return (await session.scalars(query)).all()


async def save_draft(
    session: TenantSession, journey: Journey, *, definition: Mapping[str, Any], name: str | None, by: Actor
) -> Journey:
    """Replace the draft. Nobody in the journey notices before it is published.

    Raises:
        InvalidError: as for `create`.
    """
    await checked(session, definition, key=journey.key)
    changes: dict[str, tuple[Any, Any]] = (
        {"draft": (journey.draft, dict(definition))} if journey.draft != definition else {}
    )
    if name is not None and name != journey.name:
        changes["name"] = (journey.name, name)
        journey.name = name
    if changes:
        journey.draft = dict(definition)
        journey.updated_at = func.now()  # pyright: ignore[reportAttributeAccessIssue]  # SQL for a column
        await _record(session, journey, "journey.draft_saved", changes, by)
        await session.flush()
        await session.refresh(journey)
    return journey


async def publish(
    session: TenantSession, journey: Journey, *, by: Actor, definition: Mapping[str, Any] | None = None
) -> JourneyVersion:
    """Make the draft, or this definition, a version that people enter from now on.

    Those inside finish on the version they entered, unless they are moved (`services.journeys.publishing`).

    Raises:
        InvalidError: the definition names something that is gone.
        ConflictError: the journey is cancelled.
    """
    await session.refresh(journey, with_for_update=True)
    if journey.status == "cancelled":
        raise ConflictError("a cancelled journey cannot be published")
    raw = dict(journey.draft if definition is None else definition)
    parsed = await checked(session, raw, key=journey.key, keep=True)
    number = await session.scalar(
        select(func.coalesce(func.max(JourneyVersion.number), 0) + 1).where(
            JourneyVersion.tenant_id == session.tenant_id, JourneyVersion.journey_id == journey.id
        )
    )
    version = JourneyVersion(
        tenant_id=session.tenant_id,
        id=new_id(),
        journey_id=journey.id,
        number=number or 1,
        definition=raw,
        published_by=by.name,
    )
    session.add(version)
    await session.flush()
    listeners = hearing.heard(parsed)
    if listeners:
        await session.execute(
            insert(JourneyListener),
            [
                {
                    "tenant_id": session.tenant_id,
                    "event_type": event_type,
                    "version_id": version.id,
                    "kind": kind,
                    "ordinal": ordinal,
                    "journey_id": journey.id,
                    "subject": parsed.subject,
                }
                for event_type, kind, ordinal in listeners
            ],
        )
    before = journey.status
    journey.active_version_id = version.id
    if before == "draft":
        journey.status = "active"
    await _record(
        session,
        journey,
        "journey.published",
        {"version": (version.number - 1 or None, version.number), "status": (before, journey.status)},
        by,
    )
    await session.flush()
    await by_clock.follow(session, journey)
    await session.refresh(version)
    return version


async def pause(session: TenantSession, journey: Journey, *, by: Actor, what: What = "all") -> None:
    """Hold all of it: nobody enters by event, and nobody inside takes a step; or only the entry, or what it sends.

    Waits go on running out. While `sends` are paused members go as far as a node that sends, and are held there.

    Raises:
        ConflictError: it is held so already, or neither active nor, for a part of it, paused.
    """
    if what == "all":
        await _switch(session, journey, "journey.paused", {"active"}, "paused", by)
        return
    await session.refresh(journey, with_for_update=True)
    if journey.status not in {"active", "paused"}:
        raise ConflictError(f"a journey that is {journey.status} has no {what} to pause")
    if holding.paused(journey, what):
        raise ConflictError(f"the journey's {what} is paused already")
    await _set(session, journey, "journey.paused", {holding.SWITCHES[what]: (False, True)}, by)


async def resume(
    session: TenantSession, journey: Journey, *, by: Actor, what: What = "all", overdue: Overdue = "send"
) -> None:
    """Go on, with all of it or with the one part that was held. Whoever fell due meanwhile goes on now.

    With `overdue` as `skip` they are sent nothing before their next wait; with `exit` they leave instead.

    Raises:
        ConflictError: nothing of the kind is held.
        InvalidError: `overdue` says something of a held entry, by which nobody is late.
    """
    await session.refresh(journey, with_for_update=True)
    changes: dict[str, tuple[Any, Any]] = {
        holding.SWITCHES[part]: (True, False)
        for part in holding.SWITCHES
        if what in {"all", part} and holding.paused(journey, part)
    }
    if what == "all" and journey.status == "paused":
        changes["status"] = ("paused", "active")
    if what == "entry" and overdue != "send":
        raise InvalidError.of("overdue", "is about people inside, whom a paused entry does not hold")
    if not changes:
        held = f"{what} of the journey" if what != "all" else "journey"
        raise ConflictError(f"the {held} is not paused" if journey.status == "active" else f"it is {journey.status}")
    late = await holding.settle(session, journey, what, overdue) if what != "entry" else 0
    if late:
        changes["overdue"] = None, {overdue: late}
    await _set(session, journey, "journey.resumed", changes, by)
    if what != "entry":
        await endings.release_all(session, journey.id)


async def cancel(session: TenantSession, journey: Journey, *, by: Actor) -> int:
    """End the journey for everybody inside and let nobody enter again; return how many were inside."""
    await _switch(session, journey, "journey.cancelled", {"draft", "active", "paused"}, "cancelled", by)
    return await endings.end(session, ENROLLMENT.c.journey_id == journey.id, status="exited", reason="cancelled")


async def _switch(
    session: TenantSession, journey: Journey, verb: str, allowed: set[str], status: str, by: Actor
) -> None:
    await session.refresh(journey, with_for_update=True)
    if journey.status not in allowed:
        raise ConflictError(f"a journey that is {journey.status} cannot become {status}")
    await _set(session, journey, verb, {"status": (journey.status, status)}, by)


async def _set(session: TenantSession, journey: Journey, verb: str, changes: activity.Changes, by: Actor) -> None:
    await _record(session, journey, verb, changes, by)
    for switch in changes.keys() & {"status", *holding.SWITCHES.values()}:
        setattr(journey, switch, changes[switch][1])
    journey.updated_at = func.now()  # pyright: ignore[reportAttributeAccessIssue]  # SQL for a column
    await session.flush()
    await by_clock.follow(session, journey)
    await session.refresh(journey)


async def checked(session: TenantSession, raw: Mapping[str, Any], *, key: str, keep: bool = False) -> JourneyDefinition:
    """Return the definition in `raw`, of the journey with this key.

    With `keep` no template it may name is deleted before the transaction ends.

    Raises:
        InvalidError: it is malformed, or names what the tenant does not have.
    """
    try:
        definition = parse(raw)
    except InvalidDefinition as error:
        raise _invalid(error.problems) from error
    words = await vocabulary.load(session)
    tenant = await named.load(session)
    # It may let into itself.
    tenant = replace(tenant, journeys={**tenant.journeys, key: definition.subject})
    problems = validate(definition, words, templates=await _templates(session, keep=keep), named=tenant)
    problems += by_clock.problems(definition)
    if problems:
        raise _invalid(problems)
    return definition


async def _templates(session: TenantSession, *, keep: bool) -> dict[tuple[str, str], frozenset[str]]:
    statement = (
        select(Template.channel, Template.key, TemplateVersion.variables)
        .join(
            TemplateVersion,
            (TemplateVersion.tenant_id == Template.tenant_id) & (TemplateVersion.id == Template.current_version_id),
        )
        .where(Template.tenant_id == session.tenant_id, Template.deleted_at.is_(None))
    )
    rows = await session.execute(
        statement.with_for_update(key_share=True, read=True, of=Template) if keep else statement
    )
    return {(row.channel, row.key): frozenset(row.variables) for row in rows}


def _invalid(problems: Sequence[Problem]) -> InvalidError:
    return InvalidError(
        f"the definition has {len(problems)} problem{'s' if len(problems) > 1 else ''}",
        errors=[FieldProblem(".".join(filter(None, ("definition", p.path))), p.reason) for p in problems],
    )


async def _record(session: TenantSession, journey: Journey, verb: str, changes: activity.Changes, by: Actor) -> None:
    await activity.record(session, by=by, subject_type="journey", subject_id=journey.id, type=verb, changes=changes)


async def version(session: TenantSession, journey: Journey, version_id: UUID) -> JourneyVersion:
    """Return a published version of this journey.

    Raises:
        NotFoundError: it has none of that id.
    """
    found = await session.get(JourneyVersion, {"tenant_id": session.tenant_id, "id": version_id})
    if found is None or found.journey_id != journey.id:
        raise NotFoundError(f"the journey has no version {version_id}")
    return found
