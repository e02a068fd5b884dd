"""Teammates of the caller's tenant."""

from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import StrictBool
from sqlalchemy import event
from sqlalchemy.orm import Session

from api.authentication import Authenticator
from api.dependencies import ActorDep, AuthenticatorDep, NowDep, PrincipalDep, SessionDep, requires
from api.fields import Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.database import TenantSession
from models import UserAccount
from services.tenancy import users

router = Router(prefix="/users", tags=["users"])

READ = [requires("users:read")]
WRITE = [requires("users:write")]

UserRole = Literal["owner", "admin", "marketer", "sales", "read_only"]


class UserOut(Strict):
    """A teammate."""

    id: UUID
    email: str
    name: str
    role: UserRole
    disabled: bool
    last_sign_in_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, user: UserAccount) -> Self:
        """Return the answer for a user."""
        return cls(
            id=user.id,
            email=user.email,
            name=user.name,
            role=user.role,  # pyright: ignore[reportArgumentType]  # the store holds it to the roles
            disabled=user.disabled_at is not None,
            last_sign_in_at=user.last_sign_in_at,
            created_at=user.created_at,
        )


class UserPatch(Strict):
    """What to change; a field left out, or null, stays as it is."""

    name: Name | None = None
    role: UserRole | None = None
    disabled: StrictBool | None = None
    """Whoever is disabled is signed out and cannot sign in; things keep their name."""


@router.get("", dependencies=READ)
async def list_users(
    session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[UserOut]:
    """List teammates, newest first, disabled ones too."""
    before: UUID | None = decode_cursor(cursor, [UUID])[0] if cursor else None
    found = await users.page(session, limit=limit + 1, before=before)
    return Page[UserOut](
        items=[UserOut.of(user) for user in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{user_id}", dependencies=READ)
async def get(user_id: UUID, session: SessionDep) -> UserOut:
    """Return a teammate: whom `user:ID` in the activity log means."""
    return UserOut.of(await users.get(session, user_id))


@router.patch("/{user_id}", dependencies=WRITE)
async def update(
    user_id: UUID,
    body: UserPatch,
    session: SessionDep,
    principal: PrincipalDep,
    actor: ActorDep,
    authenticator: AuthenticatorDep,
    now: NowDep,
) -> UserOut:
    """Change a teammate's name or role, or disable one.

    Nobody changes people who may do more than they, nor makes anyone such (403). The last owner stays one (409). A
    disabled teammate's sessions end at once in this process and within ten seconds in others.
    """
    user, ended = await users.update_user(
        session,
        user_id,
        name=body.name,
        role=body.role,
        disabled=body.disabled,
        by=actor,
        granted=principal,
        now=now,
    )
    refuse_after_commit(session, authenticator, ended, user_id)
    return UserOut.of(user)


def refuse_after_commit(
    session: TenantSession, authenticator: Authenticator, hashes: list[bytes], user_id: UUID
) -> None:
    """Have this process refuse these sessions, and look again at what the user may do, once it is committed."""

    def refuse(_committed: Session) -> None:
        authenticator.refuse(*hashes)
        authenticator.forget_user(user_id)

    event.listen(session.sync_session, "after_commit", refuse, once=True)
