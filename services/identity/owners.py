"""Who looks after a person or an organization: a teammate."""

from uuid import UUID

from sqlalchemy import exists, select

from core.database import TenantSession
from core.errors import InvalidError
from models import UserAccount


async def check_owner(session: TenantSession, user_id: UUID | None) -> None:
    """Check that an owner is a user of the tenant; nobody is fine too.

    Raises:
        InvalidError: naming `owner_id`.
    """
    if user_id is not None and not await session.scalar(
        select(exists().where(UserAccount.tenant_id == session.tenant_id, UserAccount.id == user_id))
    ):
        raise InvalidError.of("owner_id", "there is no such user")
