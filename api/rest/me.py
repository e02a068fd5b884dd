"""The caller: who it is and what it may do."""

from uuid import UUID

from fastapi import Response

from api.dependencies import AuthenticatorDep, DatabaseDep, NowDep, PrincipalDep, SessionDep, SignedInDep
from api.fields import Strict
from api.rest.sessions import Password
from api.rest.users import UserOut, refuse_after_commit
from api.routing import Router
from core.errors import InvalidError
from services.tenancy import passwords, tenants, throttle, users

router = Router(prefix="/me", tags=["users"])


class TenantRef(Strict):
    """The tenant one is in."""

    id: UUID
    key: str
    name: str


class Me(Strict):
    """Who calls: a user with a session, or an API key."""

    tenant: TenantRef
    user: UserOut | None
    session_id: UUID | None
    api_key_id: UUID | None
    scopes: list[str]
    """What the caller may do; `*` is everything."""


class PasswordChange(Strict):
    """The password one has, and the one to have."""

    current: Password
    new: Password


@router.get("")
async def get(session: SessionDep, principal: PrincipalDep) -> Me:
    """Say who the caller is."""
    return Me(
        tenant=TenantRef.model_validate(await tenants.get(session), from_attributes=True),
        user=None if principal.user_id is None else UserOut.of(await users.get(session, principal.user_id)),
        session_id=principal.session_id,
        api_key_id=principal.key_id,
        scopes=sorted(principal.scopes),
    )


@router.post("/password", status_code=204, responses={429: {}})
async def change_password(
    body: PasswordChange,
    response: Response,
    signed_in: SignedInDep,
    database: DatabaseDep,
    authenticator: AuthenticatorDep,
    now: NowDep,
) -> None:
    """Change one's password; all other sessions of one's end. Failures count as failures to sign in do."""
    response.headers["Cache-Control"] = "no-store"
    async with signed_in.transaction() as session:
        user = await users.get(session, signed_in.user_id)
    async with database.system() as system:
        await throttle.begin(system, user.email, now=now)
    if not await passwords.fits(body.current.get_secret_value(), user.password_hash):
        raise InvalidError.of("current", "is not your password")
    async with database.system() as system:
        await throttle.succeeded(system, user.email, 1)
    chosen = body.new.get_secret_value()
    passwords.check(chosen, user.email, "new")
    password_hash = await passwords.hash_of(chosen)
    async with signed_in.transaction() as session:
        ended = await users.set_password(
            session, user, password_hash, by=signed_in.actor, now=now, keep_session=signed_in.session_id
        )
        refuse_after_commit(session, authenticator, ended, signed_in.user_id)
