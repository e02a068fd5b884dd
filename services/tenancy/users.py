"""Teammates of a tenant. Never deleted, as the audit names them: disabled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import and_, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Tenant, UserAccount
from models.users import USER_ROLES
from services.identity import normalize
from services.shared import activity
from services.tenancy import passwords, roles, sessions, withdrawal
from services.tenancy.api_keys import Credential

MAX_ACCOUNTS: Final = 2
"""Of how many tenants somebody can be without naming the one to sign in to."""


@dataclass(frozen=True, slots=True)
class Account:
    """What signing in needs to know of somebody."""

    tenant_id: UUID
    tenant_key: str
    user_id: UUID
    password_hash: str


async def accounts(session: AsyncSession, email: str, tenant_key: str | None) -> list[Account]:
    """Return the accounts that an address may sign in to, the oldest `MAX_ACCOUNTS`; needs a session of tl_system.

    The oldest, so that nobody else can push them out by making accounts of the address.
    """
    statement = (
        select(UserAccount.tenant_id, Tenant.key, UserAccount.id, UserAccount.password_hash)
        .join(Tenant, Tenant.id == UserAccount.tenant_id)
        .where(UserAccount.email == email, UserAccount.disabled_at.is_(None))
        .order_by(UserAccount.created_at, UserAccount.id)
        .limit(MAX_ACCOUNTS)
    )
    if tenant_key is not None:
        statement = statement.where(Tenant.key == tenant_key)
    return [Account(*row) for row in await session.execute(statement)]


async def create(
    session: TenantSession, *, email: str, name: str, role: str, password_hash: str, by: Actor
) -> UserAccount:
    """Make a teammate, whose address is normalized and whose password was checked and hashed already.

    Raises:
        InvalidError: there is no such role.
        ConflictError: the tenant has somebody with this address.
    """
    if role not in USER_ROLES:
        raise InvalidError.of("role", f"must be one of {', '.join(USER_ROLES)}")
    user = await session.scalar(
        insert(UserAccount)
        .values(
            tenant_id=session.tenant_id,
            id=new_id(),
            email=email,
            name=checked_name(name),
            role=role,
            password_hash=password_hash,
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "email"])
        .returning(UserAccount)
    )
    if user is None:
        raise taken(email)
    await _log(session, user, "created", {name: (None, getattr(user, name)) for name in ("email", "name", "role")}, by)
    return user


def checked_name(text: str) -> str:
    """Return a name as it is kept.

    Raises:
        InvalidError: it is empty, too long, or not a line of text.
    """
    name = normalize.line(text, "name")
    if name is None:
        raise InvalidError.of("name", "is required")
    return name


def taken(email: str) -> ConflictError:
    """Return the refusal of an address that a teammate has."""
    return ConflictError(
        f"{email} belongs to a teammate already, perhaps a disabled one.", errors=[FieldProblem("email", "is taken")]
    )


async def get(session: TenantSession, user_id: UUID) -> UserAccount:
    """Return a teammate, disabled ones too.

    Raises:
        NotFoundError: the tenant has no such user.
    """
    user = await session.get(UserAccount, (session.tenant_id, user_id))
    if user is None:
        raise NotFoundError("There is no such user.")
    return user


async def exists(session: TenantSession, user_id: UUID) -> bool:
    """Return whether the tenant has this user and it is not disabled: whether things may be given into its care."""
    statement = select(UserAccount.id).where(
        UserAccount.tenant_id == session.tenant_id, UserAccount.id == user_id, UserAccount.disabled_at.is_(None)
    )
    return await session.scalar(statement) is not None


async def by_email(session: TenantSession, email: str) -> UserAccount | None:
    """Return the teammate with this normalized address."""
    statement = select(UserAccount).where(UserAccount.tenant_id == session.tenant_id, UserAccount.email == email)
    return await session.scalar(statement)


async def page(session: TenantSession, *, limit: int, before: UUID | None = None) -> Sequence[UserAccount]:
    """Return up to `limit` teammates made before the user `before`, newest first, disabled ones too."""
    statement = select(UserAccount).where(UserAccount.tenant_id == session.tenant_id)
    if before is not None:
        statement = statement.where(UserAccount.id < before)
    return (await session.scalars(statement.order_by(UserAccount.id.desc()).limit(limit))).all()


async def update_user(  # noqa: PLR0913 - what can be changed, by whom and when
    session: TenantSession,
    user_id: UUID,
    *,
    name: str | None = None,
    role: str | None = None,
    disabled: bool | None = None,
    by: Actor,
    granted: Credential | None,
    now: datetime,
) -> tuple[UserAccount, list[bytes]]:
    """Change a teammate; return it and the hashes of the sessions that are over with it. None leaves a field alone.

    Whoever is disabled or gets another role takes the open invitations they sent with them.

    Raises:
        NotFoundError: the tenant has no such user.
        ForbiddenError: `granted` may do less than the user, or than the new role.
        ConflictError: nobody would be left as owner.
    """
    user, owners = await _locked_with_owners(session, user_id)
    roles.check_may_manage(granted, user.role, role or user.role)
    wanted: dict[str, Any] = {}
    if name is not None:
        wanted["name"] = checked_name(name)
    if role is not None:
        wanted["role"] = role
    if disabled is not None and disabled != (user.disabled_at is not None):
        wanted["disabled_at"] = now if disabled else None
    changes = {field: (getattr(user, field), value) for field, value in wanted.items() if getattr(user, field) != value}
    if not changes:
        return user, []
    for field, (_, value) in changes.items():
        setattr(user, field, value)
    if user.id in owners and (user.role != "owner" or user.disabled_at is not None) and len(owners) == 1:
        raise ConflictError(
            "A tenant needs an owner: make somebody else one first.",
            errors=[FieldProblem("role" if user.role != "owner" else "disabled", "would leave no owner")],
        )
    await session.flush()
    if "disabled_at" in changes:
        before, after = changes.pop("disabled_at")
        changes["disabled"] = (before is not None, after is not None)
    await _log(session, user, "updated", changes, by)
    if user.disabled_at is not None or "role" in changes:
        await withdrawal.withdraw(session, Actor.user(user.id, None).name, now=now)
    ended = await sessions.end_all(session, user.id, now=now) if user.disabled_at is not None else []
    return user, ended


async def set_password(
    session: TenantSession,
    user: UserAccount,
    password_hash: str,
    *,
    by: Actor,
    now: datetime,
    keep_session: UUID | None = None,
) -> list[bytes]:
    """Give a user another password; return the hashes of the sessions that end with it: all but `keep_session`.

    Raises:
        ConflictError: the password was changed since `user` was read.
    """
    changed = await session.scalar(
        update(UserAccount)
        .where(
            UserAccount.tenant_id == session.tenant_id,
            UserAccount.id == user.id,
            UserAccount.password_hash == user.password_hash,
        )
        .values(password_hash=password_hash)
        .returning(UserAccount.id)
        .execution_options(synchronize_session=False)
    )
    if changed is None:
        raise ConflictError("The password was changed a moment ago.")
    await _log(session, user, "password_changed", {}, by)
    return await sessions.end_all(session, user.id, now=now, but=keep_session)


async def still_opens(session: TenantSession, account: Account) -> bool:
    """Return whether the password is the one that was checked, and keep it so until the transaction ends.

    A session begun in this transaction is thus seen, and ended, by whoever changes the password after it.
    """
    statement = (
        select(UserAccount.id)
        .where(
            UserAccount.tenant_id == session.tenant_id,
            UserAccount.id == account.user_id,
            UserAccount.password_hash == account.password_hash,
        )
        .with_for_update(key_share=True)
    )
    return await session.scalar(statement) is not None


async def rehash(session: TenantSession, account: Account, password: str) -> None:
    """Keep the password's hash in the parameters used now, where it was made with others."""
    if passwords.is_outdated(account.password_hash):
        fresh = await passwords.hash_of(password)
        await session.execute(
            update(UserAccount)
            .where(
                UserAccount.tenant_id == session.tenant_id,
                UserAccount.id == account.user_id,
                UserAccount.password_hash == account.password_hash,
            )
            .values(password_hash=fresh)
        )


async def _locked_with_owners(session: TenantSession, user_id: UUID) -> tuple[UserAccount, set[UUID]]:
    """Lock the user and all who are owners, in one order: of two owners who demote each other one comes too late."""
    is_owner = and_(UserAccount.role == "owner", UserAccount.disabled_at.is_(None))
    rows = await session.scalars(
        select(UserAccount)
        .where(UserAccount.tenant_id == session.tenant_id, or_(UserAccount.id == user_id, is_owner))
        .order_by(UserAccount.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    locked = {user.id: user for user in rows}
    if user_id not in locked:
        raise NotFoundError("There is no such user.")
    owners = {user.id for user in locked.values() if user.role == "owner" and user.disabled_at is None}
    return locked[user_id], owners


async def _log(session: TenantSession, user: UserAccount, verb: str, changes: Mapping[str, Any], by: Actor) -> None:
    await activity.record(
        session, by=by, subject_type="user", subject_id=user.id, type=f"user.{verb}", changes=dict(changes)
    )
