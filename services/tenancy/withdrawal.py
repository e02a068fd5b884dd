"""What somebody who may do less from now on takes with them."""

from datetime import datetime

from sqlalchemy import update

from core.database import TenantSession
from models import Invitation


async def withdraw(session: TenantSession, inviter: str, *, now: datetime) -> None:
    """Close the open invitations that the actor of this name sent."""
    await session.execute(
        update(Invitation)
        .where(
            Invitation.tenant_id == session.tenant_id,
            Invitation.invited_by == inviter,
            Invitation.closed_at.is_(None),
        )
        .values(closed_at=now)
    )
