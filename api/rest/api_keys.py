"""API keys of the caller's tenant."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Response
from pydantic import Field
from sqlalchemy import event
from sqlalchemy.orm import Session

from api.dependencies import ActorDep, AuthenticatorDep, PrincipalDep, SessionDep, requires
from api.fields import Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from services.tenancy import api_keys

router = Router(prefix="/api-keys", tags=["api keys"])


class NewApiKey(Strict):
    """A key to make."""

    name: Name
    scopes: Annotated[list[str], Field(min_length=1, max_length=100)]
    """`noun:read` or `noun:write`, or `*` for all."""


class ApiKey(Strict):
    """A key as it can be seen after it was made."""

    id: UUID
    name: str
    prefix: str
    """The first characters, to recognise it by."""
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None


class CreatedApiKey(ApiKey):
    """A key just made."""

    secret: str
    """The key itself; shown this once."""


@router.post("", status_code=201, dependencies=[requires("api_keys:write")])
async def create(
    body: NewApiKey, response: Response, session: SessionDep, principal: PrincipalDep, actor: ActorDep
) -> CreatedApiKey:
    """Make a key. It cannot be allowed more than the key that makes it."""
    response.headers["Cache-Control"] = "no-store"  # nor is the secret kept for `Idempotency-Key`
    key, secret = await api_keys.create(session, body.name, body.scopes, by=actor, granted=principal)
    return CreatedApiKey(**ApiKey.model_validate(key).model_dump(), secret=secret)


@router.get("", dependencies=[requires("api_keys:read")])
async def list_keys(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[ApiKey]:
    """List keys, newest first, revoked ones too."""
    before: UUID | None = decode_cursor(cursor, [UUID])[0] if cursor else None
    keys = await api_keys.list_keys(session, limit=limit + 1, before=before)
    return Page[ApiKey](
        items=[ApiKey.model_validate(key) for key in keys[:limit]],
        next_cursor=encode_cursor(keys[limit - 1].id) if len(keys) > limit else None,
    )


@router.delete("/{key_id}", status_code=204, dependencies=[requires("api_keys:write")])
async def revoke(key_id: UUID, session: SessionDep, actor: ActorDep, authenticator: AuthenticatorDep) -> None:
    """Revoke a key for good: refused by this process at once, by others within ten seconds."""
    secret_hash = await api_keys.revoke(session, key_id, by=actor)

    def refuse(_committed: Session) -> None:
        authenticator.refuse(secret_hash)

    event.listen(session.sync_session, "after_commit", refuse, once=True)
