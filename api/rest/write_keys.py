"""Write keys: what a website's script shows, so that it can write what visitors do."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.orm import Session

from api.dependencies import ActorDep, ResourcesDep, SessionDep, requires
from api.fields import Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from services.tenancy import write_keys

router = Router(prefix="/write-keys", tags=["tracking"])


class NewWriteKey(Strict):
    """A key to make."""

    name: Name


class WriteKey(Strict):
    """A key. It is public: it stands in the pages of the website."""

    id: UUID
    name: str
    key: str
    created_at: datetime
    revoked_at: datetime | None


@router.post("", status_code=201, dependencies=[requires("events:write")])
async def create(body: NewWriteKey, session: SessionDep, actor: ActorDep) -> WriteKey:
    """Make a key. Pages of the tenant's `allowed_origins` can use it, to write events of visitors and nothing else."""
    return WriteKey.model_validate(await write_keys.create(session, body.name, by=actor))


@router.get("", dependencies=[requires("events:read")])
async def index(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[WriteKey]:
    """List keys, newest first, revoked ones too."""
    before: UUID | None = decode_cursor(cursor, [UUID])[0] if cursor else None
    keys = await write_keys.page(session, limit=limit + 1, before=before)
    return Page[WriteKey](
        items=[WriteKey.model_validate(key) for key in keys[:limit]],
        next_cursor=encode_cursor(keys[limit - 1].id) if len(keys) > limit else None,
    )


@router.delete("/{key_id}", status_code=204, dependencies=[requires("events:write")])
async def revoke(key_id: UUID, session: SessionDep, actor: ActorDep, resources: ResourcesDep) -> None:
    """Revoke a key for good: refused by this process at once, by others within ten seconds."""
    key = await write_keys.revoke(session, key_id, by=actor)

    def refuse(_committed: Session) -> None:
        resources.websites.refuse(key)

    event.listen(session.sync_session, "after_commit", refuse, once=True)
