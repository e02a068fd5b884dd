"""How often somebody may try to sign in: counted by address, the same whether or not anybody has it."""

import hashlib
import math
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.errors import TooManyRequestsError
from models import SignInAttempts, UserAccount

FREE: Final = 5
"""Attempts that may fail before the first wait."""
FIRST_WAIT: Final = timedelta(minutes=1)
LONGEST_WAIT: Final = timedelta(minutes=15)
"""The wait doubles with each further failure, up to this."""
FORGOTTEN: Final = timedelta(days=1)
"""Failures count no longer when the last is so old."""
PURGE_PAGE: Final = 5_000


async def begin(session: AsyncSession, email: str, *, now: datetime) -> None:
    """Count an attempt as failed before it is made, so that attempts at the same time count too; needs tl_system.

    Call `succeeded` once it has.

    Args:
        session: of tl_system; must be committed before the password is looked at.
        email: normalized.
        now: the time.

    Raises:
        TooManyRequestsError: too many failed, and the time to wait is not over.
    """
    row = SignInAttempts
    key = _key(email)
    fresh = insert(row).values(address_hash=key, failed=1, last_at=now)
    counted = await session.scalar(
        fresh.on_conflict_do_update(
            index_elements=["address_hash"],
            set_={"failed": row.failed + 1, "last_at": now},
            where=or_(row.locked_until.is_(None), row.locked_until <= now),
        ).returning(row),
        execution_options={"populate_existing": True},
    )
    if counted is None:
        until = await session.scalar(select(row.locked_until).where(row.address_hash == key))
        seconds = math.ceil((until - now).total_seconds()) if until else 1
        raise TooManyRequestsError(
            f"Too many attempts to sign in with this address failed; try again in {seconds} s.",
            retry_after=max(seconds, 1),
        )
    if counted.failed >= FREE:
        doublings = min(counted.failed - FREE, 10)
        counted.locked_until = now + min(FIRST_WAIT * 2**doublings, LONGEST_WAIT)
        await session.flush()


async def succeeded(session: AsyncSession, email: str, opened: int) -> None:
    """Count an attempt no longer, as it opened `opened` accounts; needs a session of tl_system.

    Earlier failures are forgotten where the address has no other account: whoever runs a tenant of his own can make an
    account of any address there, and must not clear by it what he fails elsewhere.
    """
    statement = select(func.count()).where(UserAccount.email == email, UserAccount.disabled_at.is_(None))
    if await session.scalar(statement) == opened:
        await forgive(session, email)
        return
    await session.execute(
        update(SignInAttempts)
        .where(SignInAttempts.address_hash == _key(email))
        .values(failed=func.greatest(SignInAttempts.failed - 1, 0), locked_until=None)
    )


async def forgive(session: AsyncSession, email: str) -> None:
    """Forget all failures of an address; needs a session of tl_system."""
    await session.execute(delete(SignInAttempts).where(SignInAttempts.address_hash == _key(email)))


async def purge(session: AsyncSession) -> int:
    """Delete up to `PURGE_PAGE` counts that are too old to matter; needs a session of tl_system."""
    old = (
        select(SignInAttempts.address_hash)
        .where(SignInAttempts.last_at <= func.now() - FORGOTTEN)
        .limit(PURGE_PAGE)
        .scalar_subquery()
    )
    statement = delete(SignInAttempts).where(SignInAttempts.address_hash.in_(old))
    return len((await session.execute(statement.returning(SignInAttempts.address_hash))).all())


def _key(email: str) -> bytes:
    return hashlib.sha256(email.encode()).digest()
