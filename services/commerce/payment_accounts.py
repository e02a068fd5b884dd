"""A tenant's accounts with payment gateways: one is active, and new payments go by it.

A payment stays with the account it was begun with, so an account that has payments is made inactive, never deleted.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from core.sealing import Seal, UnsealableError
from models import Payment, PaymentAccount
from services.shared import activity

GatewayName = Literal["local", "stripe"]
MAX_ACCOUNTS: Final = 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class LocalConfig(_Part):
    """The gateway without a bank: nothing to say."""


class LocalSecret(_Part):
    """What signs notices that try things out."""

    webhook_secret: Annotated[str, Field(min_length=16, max_length=200)] | None = None


class StripeConfig(_Part):
    """What the shop's pages may know."""

    publishable_key: Annotated[str, Field(pattern=r"^pk_(test|live)_[A-Za-z0-9]{1,250}$")] | None = None


class StripeSecret(_Part):
    """The account's key for servers, and what its notices are signed with."""

    secret_key: Annotated[str, Field(pattern=r"^[sr]k_(test|live)_[A-Za-z0-9]{1,250}$")]
    webhook_secret: Annotated[str, Field(pattern=r"^whsec_[A-Za-z0-9+/=]{8,250}$")] | None = None
    """Without it notices are not taken: nothing shows that they come from Stripe."""


_PARTS: Final[dict[GatewayName, tuple[type[_Part], type[LocalSecret | StripeSecret]]]] = {
    "local": (LocalConfig, LocalSecret),
    "stripe": (StripeConfig, StripeSecret),
}


@dataclass(frozen=True, slots=True)
class _Read:
    config: dict[str, Any]
    secret: LocalSecret | StripeSecret


async def create(
    session: TenantSession,
    gateway: GatewayName,
    *,
    config: Mapping[str, Any],
    secret: Mapping[str, Any],
    active: bool,
    seal: Seal,
    by: Actor,
) -> PaymentAccount:
    """Add an account.

    Raises:
        InvalidError: naming the field of `config` or `secret`.
        ConflictError: another account is active, or there are too many.
    """
    read = _read(gateway, config, secret)
    count = select(func.count()).select_from(PaymentAccount).where(PaymentAccount.tenant_id == session.tenant_id)
    if (await session.scalar(count) or 0) >= MAX_ACCOUNTS:
        raise ConflictError(f"There can be at most {MAX_ACCOUNTS} accounts.")
    account = PaymentAccount(
        tenant_id=session.tenant_id,
        id=new_id(),
        gateway=gateway,
        config=read.config,
        secret=_sealed(read, seal),
        active=active,
    )
    if active:
        await _check_alone(session, account)
    try:
        async with session.begin_nested():
            session.add(account)
            await session.flush()
    except IntegrityError as error:  # made active at the same moment
        raise _other_active() from error
    await session.refresh(account)
    changes = {name: (None, getattr(account, name)) for name in ("gateway", "config", "active")}
    await _record(session, account, "payment_account.created", changes, by=by)
    return account


async def update(
    session: TenantSession, account_id: UUID, fields: Mapping[str, Any], *, seal: Seal, by: Actor
) -> PaymentAccount:
    """Change `config`, `secret` (each as a whole) or `active`, as far as they are given.

    Raises:
        NotFoundError: no such account.
        InvalidError: naming the field of `config` or `secret`.
        ConflictError: another account is active.
    """
    account = await get(session, account_id, lock=True)
    given = dict(fields)
    if {"config", "secret"} & given.keys():
        anew = given.pop("secret", None)
        known = _opened(account, seal) if anew is None else anew
        read = _read(_gateway(account), given.get("config", account.config), known)
        given["config"] = read.config
        if anew is not None:
            given["secret"] = _sealed(read, seal)
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
    except IntegrityError as error:
        raise _other_active() from error
    await session.refresh(account)
    await _record(session, account, "payment_account.updated", changes, by=by)
    return account


async def delete(session: TenantSession, account_id: UUID, *, by: Actor) -> None:
    """Forget an account by which nothing was ever paid.

    Raises:
        NotFoundError: no such account.
        ConflictError: there are payments by it.
    """
    account = await get(session, account_id, lock=True)
    used = select(Payment.id).where(Payment.tenant_id == session.tenant_id, Payment.account_id == account_id).limit(1)
    if await session.scalar(used) is not None:
        raise ConflictError("There are payments by this account; make it inactive.")
    await session.delete(account)
    await session.flush()
    await _record(session, account, "payment_account.deleted", {"gateway": (account.gateway, None)}, by=by)


async def get(session: TenantSession, account_id: UUID, *, lock: bool = False) -> PaymentAccount:
    """Return an account.

    Raises:
        NotFoundError: no such account.
    """
    key = (session.tenant_id, account_id)
    account = await session.get(PaymentAccount, key, with_for_update=lock or None, populate_existing=True)
    if account is None:
        raise NotFoundError("No such account.")
    return account


async def page(session: TenantSession, *, limit: int, after: UUID | None) -> Sequence[PaymentAccount]:
    """Return up to `limit` accounts, oldest first, those made after `after` only."""
    statement = select(PaymentAccount).where(PaymentAccount.tenant_id == session.tenant_id)
    if after is not None:
        statement = statement.where(PaymentAccount.id > after)
    return (await session.scalars(statement.order_by(PaymentAccount.id).limit(limit))).all()


def secret(account: PaymentAccount, *, seal: Seal) -> LocalSecret | StripeSecret:
    """Return what an account is used by.

    Raises:
        ConflictError: the deployment's key is another one now.
    """
    return _read(_gateway(account), account.config, _opened(account, seal)).secret


def _gateway(account: PaymentAccount) -> GatewayName:
    return "stripe" if account.gateway == "stripe" else "local"


def _read(gateway: GatewayName, config: Mapping[str, Any], secret: Mapping[str, Any]) -> _Read:
    config_type, secret_type = _PARTS[gateway]
    problems: list[FieldProblem] = []
    found: list[Any] = []
    for name, kind, given in (("config", config_type, config), ("secret", secret_type, secret)):
        try:
            found.append(kind.model_validate(given))
        except ValidationError as error:
            problems += [
                FieldProblem(".".join((name, *map(str, each["loc"]))), each["msg"])
                for each in error.errors(include_input=False, include_url=False)
            ]
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
    return _Read(found[0].model_dump(exclude_none=True), found[1])


def _sealed(read: _Read, seal: Seal) -> bytes:
    return seal.close(read.secret.model_dump_json(exclude_none=True).encode())


def _opened(account: PaymentAccount, seal: Seal) -> dict[str, Any]:
    if account.secret is None:
        return {}
    try:
        return json.loads(seal.open(account.secret))
    except UnsealableError as error:
        raise ConflictError("The secret was sealed under another SECRET_KEY; give it again.") from error


async def _check_alone(session: TenantSession, account: PaymentAccount) -> None:
    other = await session.scalar(
        select(PaymentAccount.id).where(
            PaymentAccount.tenant_id == session.tenant_id,
            PaymentAccount.active.is_(True),
            PaymentAccount.id != account.id,
        )
    )
    if other is not None:
        raise _other_active()


def _other_active() -> ConflictError:
    return ConflictError(
        "Another account is active; make it inactive first.", errors=[FieldProblem("active", "another account is")]
    )


async def _record(
    session: TenantSession, account: PaymentAccount, verb: str, changes: activity.Changes, *, by: Actor
) -> None:
    await activity.record(
        session, by=by, subject_type="payment_account", subject_id=account.id, type=verb, changes=changes
    )
