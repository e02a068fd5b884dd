"""Teammates who can sign in. Hashing a password costs a tenth of a second, so all have the same, hashed once."""

from datetime import UTC, datetime
from functools import cache
from uuid import UUID, uuid4

from argon2 import PasswordHasher
from argon2.profiles import RFC_9106_LOW_MEMORY

from core.actor import CLI, Actor
from core.database import Database
from core.ids import new_id
from models import UserAccount
from services.tenancy import sessions, users
from services.tenancy.sessions import Origin

PASSWORD = "a sentence of my own"


@cache
def password_hash() -> str:
    """The hash of `PASSWORD`."""
    return PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY).hash(PASSWORD)


def address() -> str:
    """An address of nobody yet."""
    return f"u{uuid4().hex}@shop.example"


async def add_user(database: Database, tenant_id: UUID, role: str = "owner", email: str | None = None) -> UserAccount:
    """A teammate with this role."""
    async with database.tenant(tenant_id) as session:
        return await users.create(
            session, email=email or address(), name="Ann", role=role, password_hash=password_hash(), by=CLI
        )


async def token_of(database: Database, user: UserAccount) -> str:
    """The token of a session of the user's."""
    async with database.tenant(user.tenant_id) as session:
        actor = Actor.user(user.id, str(new_id()))
        return (await sessions.start(session, user.id, Origin("test", None), by=actor, now=datetime.now(UTC)))[1]
