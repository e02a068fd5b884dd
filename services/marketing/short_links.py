"""Short addresses in text messages: kept before the message goes out, looked up when somebody follows one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.database import TenantSession
from core.errors import NotFoundError
from core.ids import new_ids
from core.tokens import Click
from models import Person, ShortLink

PATH: Final = "l"
"""What stands before the code in the address, below `/t/`."""


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link to keep."""

    code: str
    message_id: UUID
    person_id: UUID
    target: str


async def keep(session: TenantSession, links: Sequence[NewLink]) -> None:
    """Write links, in one statement; those of somebody erased meanwhile, and those written before, are left out."""
    if not links:
        return
    wanted = sorted({link.person_id for link in links})
    known = select(Person.id).where(Person.tenant_id == session.tenant_id, Person.id.in_(wanted))
    living = set(await session.scalars(known.with_for_update(read=True, key_share=True)))
    rows = [
        {
            "tenant_id": session.tenant_id,
            "id": link_id,
            "code": link.code,
            "message_id": link.message_id,
            "person_id": link.person_id,
            "target": link.target,
        }
        for link_id, link in zip(new_ids(len(links)), links, strict=True)
        if link.person_id in living
    ]
    if rows:
        await session.execute(insert(ShortLink).on_conflict_do_nothing(), rows)


async def find(session: AsyncSession, code: str) -> Click:
    """Return where a code leads, and from which message; needs a session of tl_system.

    Raises:
        NotFoundError: nobody was given it.
    """
    statement = select(ShortLink.tenant_id, ShortLink.message_id, ShortLink.target).where(ShortLink.code == code)
    found = (await session.execute(statement)).one_or_none()
    if found is None:
        raise NotFoundError("No such link.")
    return Click(found.tenant_id, found.message_id, found.target)
