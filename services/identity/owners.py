"""Who looks after a person or an organization: a teammate."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Uuid, bindparam, exists, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from core.actor import Actor
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


_ASSIGN = text("""
    WITH given AS (SELECT id, owner_id FROM unnest(:people, :owners) AS g(id, owner_id)),
    old AS MATERIALIZED (
      SELECT p.id, p.owner_id AS was, given.owner_id AS now_is FROM person p JOIN given ON given.id = p.id
      WHERE p.tenant_id = :tenant AND p.owner_id IS DISTINCT FROM given.owner_id
      ORDER BY p.id FOR NO KEY UPDATE OF p
    ),
    changed AS (
      UPDATE person p SET owner_id = old.now_is, updated_at = now() FROM old
      WHERE p.tenant_id = :tenant AND p.id = old.id
      RETURNING p.tenant_id, p.id, old.was, old.now_is
    ),
    logged AS (
      INSERT INTO activity (tenant_id, id, subject_type, subject_id, type, actor, changes, request_id)
      SELECT tenant_id, tl_uuid7(), 'person', id, 'person.updated', :actor,
             jsonb_build_object('owner_id', jsonb_build_array(was, now_is)), :request_id
      FROM changed
    )
    INSERT INTO event (tenant_id, id, type, subject_type, subject_id, person_id, properties)
    SELECT tenant_id, tl_uuid7(), 'person.updated', 'person', id, id, '{"fields": ["owner_id"]}' FROM changed
""").bindparams(bindparam("people", type_=ARRAY(Uuid)), bindparam("owners", type_=ARRAY(Uuid)))


async def assign(session: TenantSession, owner_of: Mapping[UUID, UUID], *, by: Actor) -> None:
    """Give people to these teammates, who are known to be there; whoever has that owner already is left alone."""
    if not owner_of:
        return
    await session.execute(
        _ASSIGN,
        {
            "tenant": session.tenant_id,
            "people": list(owner_of),
            "owners": list(owner_of.values()),
            "actor": by.name,
            "request_id": by.request_id,
        },
    )
    session.wake_after_commit()
