"""How to get into the demo tenant: its API key and its owner, kept from run to run while they are good."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from core.actor import CLI
from core.database import Database
from core.errors import NotFoundError
from services.tenancy import api_keys, passwords, tenants, users

TENANT: Final = "demo"
OWNER_EMAIL: Final = "owner@demo.example"


class Known(Protocol):
    """What the last run left."""

    api_key: str
    user_password: str


@dataclass(frozen=True, slots=True)
class Access:
    """The way in."""

    api_key: str
    user_password: str


async def prepare(database_url: str, last: Known | None) -> Access:
    """Make the demo tenant, its key and its owner, as far as they are not there; return the way in."""
    database = Database(database_url, pool_size=1)
    try:
        async with database.system() as session:
            try:
                tenant = await tenants.by_key(session, TENANT)
            except NotFoundError:
                tenant = await tenants.create(session, TENANT, "Demo")
            key_is_good = last is not None and await api_keys.find(session, api_keys.hash_of(last.api_key)) is not None
        async with database.tenant(tenant.id) as session:
            if last is not None and key_is_good:
                api_key = last.api_key
            else:
                _, api_key = await api_keys.create(session, "throughline dev", [api_keys.ALL], by=CLI)
            owner = await users.by_email(session, OWNER_EMAIL)
            if owner is not None and last is not None and await passwords.fits(last.user_password, owner.password_hash):
                return Access(api_key, last.user_password)
            password = secrets.token_urlsafe(12)
            password_hash = await passwords.hash_of(password)
            if owner is None:
                await users.create(
                    session, email=OWNER_EMAIL, name="Demo owner", role="owner", password_hash=password_hash, by=CLI
                )
            else:
                await users.set_password(session, owner, password_hash, by=CLI, now=datetime.now(UTC))
            return Access(api_key, password)
    finally:
        await database.close()
