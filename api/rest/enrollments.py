"""Enrollments: one passage through a journey, and control over it."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.routing import Router
from services.journeys import control, passages

router = Router(prefix="/enrollments", tags=["journeys"])


class Enrollment(Strict):
    """A passage, without its steps."""

    id: UUID
    journey_id: UUID
    version_id: UUID
    subject_type: str
    subject_id: UUID
    person_id: UUID | None
    deal_id: UUID | None
    """The deal that passes, in a journey of deals."""
    status: Literal["active", "waiting", "completed", "exited", "failed"]
    node: str
    visit: int
    paused: bool
    entry_key: str
    entered_at: datetime
    node_entered_at: datetime
    wake_at: datetime | None
    """Until when they wait there, where that is known."""
    ended_at: datetime | None
    reason: str | None
    problem: dict[str, Any] | None


class Step(Strict):
    """A node passed, or the one where the person stands, without outcome."""

    node: str
    visit: int
    outcome: str | None
    entered_at: datetime
    left_at: datetime | None
    attempt: int | None
    detail: dict[str, Any] | None


class EnrollmentWithSteps(Enrollment):
    """A passage with its steps, oldest first."""

    entry: dict[str, Any]
    steps: list[Step]


class Exit(Strict):
    """Why the person is taken out."""

    reason: Annotated[str, Field(min_length=1, max_length=200)] = "removed"


async def _shown(session: SessionDep, enrollment_id: UUID) -> EnrollmentWithSteps:
    found = await passages.get(session, enrollment_id)
    await session.refresh(found)
    steps = await passages.steps_of(session, found)
    plain = Enrollment.model_validate(found)
    return EnrollmentWithSteps(
        **plain.model_dump(), entry=found.entry, steps=[Step.model_validate(step) for step in steps]
    )


@router.get("/{enrollment_id}", dependencies=[requires("journeys:read")])
async def get(enrollment_id: UUID, session: SessionDep) -> EnrollmentWithSteps:
    """Return a passage with its steps."""
    return await _shown(session, enrollment_id)


@router.post("/{enrollment_id}/exit", dependencies=[requires("journeys:write")])
async def leave(
    enrollment_id: UUID, session: SessionDep, actor: ActorDep, body: Exit | None = None
) -> EnrollmentWithSteps:
    """Take the person out of the journey, at once, wherever they are. Repeating it changes nothing."""
    await control.leave(session, enrollment_id, reason=(body or Exit()).reason, by=actor)
    return await _shown(session, enrollment_id)


@router.post("/{enrollment_id}/pause", dependencies=[requires("journeys:write")])
async def pause(enrollment_id: UUID, session: SessionDep, actor: ActorDep) -> EnrollmentWithSteps:
    """Hold the person where they are."""
    await control.pause(session, enrollment_id, by=actor)
    return await _shown(session, enrollment_id)


@router.post("/{enrollment_id}/resume", dependencies=[requires("journeys:write")])
async def resume(enrollment_id: UUID, session: SessionDep, actor: ActorDep) -> EnrollmentWithSteps:
    """Let the person go on; what fell due meanwhile happens now."""
    await control.resume(session, enrollment_id, by=actor)
    return await _shown(session, enrollment_id)


@router.post("/{enrollment_id}/skip", dependencies=[requires("journeys:write")])
async def skip(enrollment_id: UUID, session: SessionDep, actor: ActorDep) -> EnrollmentWithSteps:
    """Let the person go on past the node where they are parked, without its doing."""
    await control.skip(session, enrollment_id, by=actor)
    return await _shown(session, enrollment_id)


@router.post("/{enrollment_id}/retry", dependencies=[requires("journeys:write")])
async def retry(enrollment_id: UUID, session: SessionDep, actor: ActorDep) -> EnrollmentWithSteps:
    """Try the node again where the person is parked."""
    await control.retry(session, enrollment_id, by=actor)
    return await _shown(session, enrollment_id)
