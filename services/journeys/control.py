"""Control over one passage: each verb changes it, logs who did it, and owes its workflow the news. None acts twice."""

from uuid import UUID

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError
from models import Enrollment
from services.journeys import endings, passages
from services.journeys.members import ENROLLMENT
from services.shared import activity


async def leave(session: TenantSession, enrollment_id: UUID, *, reason: str, by: Actor) -> None:
    """Take somebody out of a journey, wherever they are; nothing happens when the passage has ended.

    Raises:
        NotFoundError: there is no such enrollment.
    """
    found = await passages.get(session, enrollment_id)
    if await endings.end(session, ENROLLMENT.c.id == enrollment_id, status="exited", reason=reason):
        await _record(
            session, found, "enrollment.exited", {"status": (found.status, "exited"), "reason": (None, reason)}, by
        )


async def pause(session: TenantSession, enrollment_id: UUID, *, by: Actor) -> None:
    """Hold somebody where they are.

    Raises:
        NotFoundError: there is no such enrollment.
        ConflictError: it has ended.
    """
    found = await _open(session, enrollment_id)
    if await endings.pause(session, ENROLLMENT.c.id == enrollment_id):
        await _record(session, found, "enrollment.paused", {"paused": (False, True)}, by)


async def resume(session: TenantSession, enrollment_id: UUID, *, by: Actor) -> None:
    """Let somebody go on who was held; what fell due meanwhile happens now.

    Raises:
        NotFoundError: there is no such enrollment.
        ConflictError: it has ended.
    """
    found = await _open(session, enrollment_id)
    if await endings.resume(session, ENROLLMENT.c.id == enrollment_id):
        await _record(session, found, "enrollment.resumed", {"paused": (True, False)}, by)


async def retry(session: TenantSession, enrollment_id: UUID, *, by: Actor) -> None:
    """Try the node again where somebody is parked.

    Raises:
        NotFoundError: there is no such enrollment.
        ConflictError: it is not parked.
    """
    found = await passages.get(session, enrollment_id)
    if not await endings.retry(session, ENROLLMENT.c.id == enrollment_id):
        raise ConflictError("the enrollment is not parked: its node has not failed")
    await _record(session, found, "enrollment.retried", {"status": ("failed", "active")}, by)


async def skip(session: TenantSession, enrollment_id: UUID, *, by: Actor) -> None:
    """Have somebody who is parked pass the node without its doing.

    Raises:
        NotFoundError: there is no such enrollment.
        ConflictError: it is not parked.
    """
    found = await passages.get(session, enrollment_id)
    if not await endings.skip(session, ENROLLMENT.c.id == enrollment_id):
        raise ConflictError("the enrollment is not parked: its node has not failed")
    await _record(session, found, "enrollment.skipped", {"status": ("failed", "active"), "skip": (None, "node")}, by)


async def _open(session: TenantSession, enrollment_id: UUID) -> Enrollment:
    found = await passages.get(session, enrollment_id)
    if found.ended_at is not None:
        raise ConflictError("the enrollment has ended")
    return found


async def _record(
    session: TenantSession, enrollment: Enrollment, verb: str, changes: activity.Changes, by: Actor
) -> None:
    await activity.record(
        session, by=by, subject_type="enrollment", subject_id=enrollment.id, type=verb, changes=changes
    )
