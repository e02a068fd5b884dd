"""A tenant's accounts with providers: one of a channel is active, and that channel's messages go by it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, NotFoundError
from core.ids import new_id
from core.sealing import Seal, UnsealableError
from models import ChannelAccount
from services.marketing import providers
from services.marketing.providers import CHANNEL_OF, Credentials, Provider
from services.shared import activity

MAX_ACCOUNTS: Final = 100

_SHOWN: Final = ("key", "channel", "provider", "name", "config", "rate_per_minute", "active")
"""What the log says of an account: never the secret."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """How this deployment keeps accounts."""

    seal: Seal
    private_hosts: bool
    """Whether accounts may name hosts of its own network, and plain HTTP."""


async def create(
    session: TenantSession, provider: Provider, fields: Mapping[str, Any], *, keeping: Keeping, by: Actor
) -> ChannelAccount:
    """Add an account, of `key`, `name`, `config`, `secret`, `rate_per_minute` and `active`.

    Raises:
        InvalidError: naming the field of `config` or `secret`.
        ConflictError: the key is taken, the channel has an active account, or there are too many.
    """
    read = providers.read(provider, fields["config"], fields["secret"], private=keeping.private_hosts)
    count = select(func.count()).select_from(ChannelAccount).where(ChannelAccount.tenant_id == session.tenant_id)
    if (await session.scalar(count) or 0) >= MAX_ACCOUNTS:
        raise ConflictError(f"There can be at most {MAX_ACCOUNTS} accounts.")
    account = ChannelAccount(
        tenant_id=session.tenant_id,
        id=new_id(),
        key=fields["key"],
        channel=CHANNEL_OF[provider],
        provider=provider,
        name=fields["name"],
        config=read.config.model_dump(),
        secret=_sealed(read, keeping),
        rate_per_minute=fields["rate_per_minute"],
        active=fields["active"],
    )
    if account.active:
        await _check_alone(session, account)
    try:
        async with session.begin_nested():
            session.add(account)
            await session.flush()
    except IntegrityError as error:
        raise ConflictError(
            f"There is an account with the key {account.key} already, or another is active.",
            errors=[FieldProblem("key", "is taken")],
        ) from error
    await session.refresh(account)
    changes = {name: (None, getattr(account, name)) for name in _SHOWN}
    await _record(session, account, "channel_account.created", changes, by=by)
    return account


async def update(
    session: TenantSession, account_id: UUID, fields: Mapping[str, Any], *, keeping: Keeping, by: Actor
) -> ChannelAccount:
    """Change `name`, `config`, `secret` (each as a whole), `rate_per_minute` or `active`, as far as they are given.

    Raises:
        NotFoundError: no such account.
        InvalidError: naming the field of `config` or `secret`.
        ConflictError: another account of the channel is active.
    """
    account = await get(session, account_id, lock=True)
    given = dict(fields)
    if {"config", "secret"} & given.keys():
        secret = given.pop("secret", None)
        provider = cast("Provider", account.provider)
        config = given.get("config", account.config)
        known = _opened(account, keeping) if secret is None else secret
        read = providers.read(provider, config, known, private=keeping.private_hosts)
        given["config"] = read.config.model_dump()
        if secret is not None:
            given["secret"] = _sealed(read, keeping)
    given = {name: value for name, value in given.items() if getattr(account, name) != value}
    if not given:
        return account
    changes = {name: (getattr(account, name), value) for name, value in given.items() if name != "secret"}
    if "secret" in given:
        changes["secret"] = ("set", "set anew")
    if given.get("active"):
        await _check_alone(session, account)
    try:
        async with session.begin_nested():
            for name, value in given.items():
                setattr(account, name, value)
            account.updated_at = func.clock_timestamp()
            await session.flush()
    except IntegrityError as error:  # made active at the same moment
        raise ConflictError("Another account of the channel is active.") from error
    await session.refresh(account)
    await _record(session, account, "channel_account.updated", changes, by=by)
    return account


async def delete(session: TenantSession, account_id: UUID, *, by: Actor) -> None:
    """Forget an account; what is queued on its channel goes by the next one, or fails for want of one.

    Raises:
        NotFoundError: no such account.
    """
    account = await get(session, account_id, lock=True)
    await session.delete(account)
    await session.flush()
    await _record(session, account, "channel_account.deleted", {"key": (account.key, None)}, by=by)


async def get(session: TenantSession, account_id: UUID, *, lock: bool = False) -> ChannelAccount:
    """Return an account.

    Raises:
        NotFoundError: no such account.
    """
    account = await session.get(
        ChannelAccount, (session.tenant_id, account_id), with_for_update=lock or None, populate_existing=True
    )
    if account is None:
        raise NotFoundError("No such account.")
    return account


async def active(session: TenantSession, channel: str) -> ChannelAccount | None:
    """Return the account that messages of a channel go by."""
    return await session.scalar(
        select(ChannelAccount).where(
            ChannelAccount.tenant_id == session.tenant_id,
            ChannelAccount.channel == channel,
            ChannelAccount.active.is_(True),
        )
    )


async def page(session: TenantSession, *, limit: int, after: UUID | None) -> Sequence[ChannelAccount]:
    """Return up to `limit` accounts, oldest first, those made after `after` only."""
    statement = select(ChannelAccount).where(ChannelAccount.tenant_id == session.tenant_id)
    if after is not None:
        statement = statement.where(ChannelAccount.id > after)
    return (await session.scalars(statement.order_by(ChannelAccount.id).limit(limit))).all()


def credentials(account: ChannelAccount, *, keeping: Keeping) -> Credentials:
    """Return what an account is used by.

    Raises:
        ConflictError: the deployment's key is another one now.
        InvalidError: it names a host that the deployment no longer allows.
    """
    provider = cast("Provider", account.provider)
    return providers.read(provider, account.config, _opened(account, keeping), private=keeping.private_hosts)


def _sealed(read: Credentials, keeping: Keeping) -> bytes:
    return keeping.seal.close(read.secret.model_dump_json(exclude_none=True).encode())


def _opened(account: ChannelAccount, keeping: Keeping) -> dict[str, Any]:
    try:
        return json.loads(keeping.seal.open(account.secret))
    except UnsealableError as error:
        raise ConflictError("The secret was sealed under another SECRET_KEY; give it again.") from error


async def _check_alone(session: TenantSession, account: ChannelAccount) -> None:
    other = await active(session, account.channel)
    if other is not None and other.id != account.id:
        raise ConflictError(
            f"The account {other.key} is active for {account.channel}; make it inactive first.",
            errors=[FieldProblem("active", f"{other.key} is")],
        )


async def _record(
    session: TenantSession, account: ChannelAccount, verb: str, changes: activity.Changes, *, by: Actor
) -> None:
    await activity.record(
        session, by=by, subject_type="channel_account", subject_id=account.id, type=verb, changes=changes
    )
