"""Invitations of colleagues: made by who may manage people of the role, accepted by whoever holds the token."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Request, Response
from pydantic import Field

from api.dependencies import ActorDep, DatabaseDep, NowDep, PrincipalDep, SessionDep, SettingsDep, requires
from api.fields import Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.sessions import NewSession, Password, origin_of
from api.rest.users import UserOut, UserRole
from api.routing import Router
from core.actor import Actor
from models import Invitation
from services.tenancy import invitations, passwords, sessions, users

router = Router(prefix="/invitations", tags=["users"])

READ = [requires("users:read")]
WRITE = [requires("users:write")]


class NewInvitation(Strict):
    """Whom to invite as what."""

    email: Annotated[str, Field(max_length=320, examples=["ben@shop.example"])]
    role: UserRole
    name: Name | None = None
    """What to call them; they may change it when they accept."""


class InvitationOut(Strict):
    """An invitation as it can be seen after it was made."""

    id: UUID
    email: str
    role: UserRole
    name: str | None
    invited_by: Annotated[str, Field(examples=["user:019f0000-0000-7000-8000-000000000000"])]
    status: Literal["open", "accepted", "closed", "expired"]
    """`closed`: revoked, or replaced by a later one."""
    created_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, invitation: Invitation, now: datetime) -> Self:
        """Return the answer for an invitation."""
        if invitation.accepted_at is not None:
            status = "accepted"
        elif invitation.closed_at is not None:
            status = "closed"
        else:
            status = "open" if invitation.expires_at > now else "expired"
        return cls(
            id=invitation.id,
            email=invitation.email,
            role=invitation.role,  # pyright: ignore[reportArgumentType]  # the store holds it to the roles
            name=invitation.name,
            invited_by=invitation.invited_by,
            status=status,
            created_at=invitation.created_at,
            expires_at=invitation.expires_at,
        )


class CreatedInvitation(InvitationOut):
    """An invitation just made."""

    token: str
    """Lets whoever has it join; shown this once."""
    accept_url: str
    """A page that takes a name and a password and accepts; pass it on to the person invited."""


class Acceptance(Strict):
    """What somebody who was invited sends."""

    token: Annotated[str, Field(max_length=200)]
    name: Name | None = None
    """Needed where the invitation has none."""
    password: Password


@router.post("", status_code=201, dependencies=WRITE)
async def create(
    body: NewInvitation,
    response: Response,
    session: SessionDep,
    principal: PrincipalDep,
    actor: ActorDep,
    settings: SettingsDep,
    now: NowDep,
) -> CreatedInvitation:
    """Invite a colleague, for seven days. Nothing is sent: pass `accept_url` on.

    Nobody invites to a role that may do more than they (403). A second invitation of an address replaces the first.
    """
    response.headers["Cache-Control"] = "no-store"  # nor is the token kept for `Idempotency-Key`
    invitation, token = await invitations.invite(
        session, email=body.email, role=body.role, name=body.name, by=actor, granted=principal, now=now
    )
    shown = InvitationOut.of(invitation, now).model_dump()
    # Behind the #, so that it stays in the browser: no log of a server or a proxy gets to see it.
    return CreatedInvitation(**shown, token=token, accept_url=f"{settings.public_url}/join#{token}")


@router.get("", dependencies=READ)
async def list_invitations(
    session: SessionDep, now: NowDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[InvitationOut]:
    """List invitations, newest first, closed ones too."""
    before: UUID | None = decode_cursor(cursor, [UUID])[0] if cursor else None
    found = await invitations.page(session, limit=limit + 1, before=before)
    return Page[InvitationOut](
        items=[InvitationOut.of(invitation, now) for invitation in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.delete("/{invitation_id}", status_code=204, dependencies=WRITE)
async def revoke(
    invitation_id: UUID, session: SessionDep, principal: PrincipalDep, actor: ActorDep, now: NowDep
) -> None:
    """Take an invitation back; one that was accepted or is closed stays as it is."""
    await invitations.revoke(session, invitation_id, by=actor, granted=principal, now=now)


@router.post("/accept", operation_id="invitations.accept", status_code=201, responses={404: {}, 409: {}})
async def accept(
    body: Acceptance, request: Request, response: Response, database: DatabaseDep, now: NowDep
) -> NewSession:
    """Join by an invitation's token, and be signed in. No key is needed; a token works once."""
    response.headers["Cache-Control"] = "no-store"
    async with database.system() as session:
        invited = await invitations.find(session, body.token, now=now)
    password = body.password.get_secret_value()
    passwords.check(password, invited.email)
    password_hash = await passwords.hash_of(password)
    request_id: str = request.state.request_id
    async with database.tenant(invited.tenant_id) as session:
        user = await invitations.accept(
            session, body.token, name=body.name, password_hash=password_hash, request_id=request_id, now=now
        )
        started, token = await sessions.start(
            session, user.id, origin_of(request), by=Actor.user(user.id, request_id), now=now
        )
        shown = UserOut.of(await users.get(session, user.id))
    return NewSession(token=token, expires_at=started.expires_at, user=shown)
