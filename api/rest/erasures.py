"""Privacy: forgetting somebody, and handing out all that is held about somebody."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Response, status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, SettingsDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.address_hashes import AddressHashes
from services.identity import erasing, exporting

router = Router(tags=["privacy"])

READ = [requires("people:read")]
WRITE = [requires("people:write")]


def get_hashes(settings: SettingsDep) -> AddressHashes:
    """Return what hashes the addresses that nothing may be sent to."""
    return AddressHashes(settings.secret_key.get_secret_value())


HashesDep = Annotated[AddressHashes, Depends(get_hashes)]


class ErasureStarted(Strict):
    """An erasure begun: the store has forgotten the person, files follow."""

    id: UUID
    person_id: UUID
    status: Literal["running", "finished"]


class Erasure(ErasureStarted):
    """An erasure and how far it has come."""

    requested_by: str
    request_id: str | None
    counts: Annotated[dict[str, int], Field(examples=[{"person": 1, "event": 12, "message": 3, "activity": 7}])]
    """Rows deleted, freed of the person or redacted, by table."""
    created_at: datetime
    finished_at: datetime | None
    """When the last file was deleted."""


@router.delete("/people/{person_id}", status_code=status.HTTP_202_ACCEPTED, dependencies=WRITE)
async def erase(person_id: UUID, session: SessionDep, actor: ActorDep, hashes: HashesDep) -> ErasureStarted:
    """Forget a person, for good.

    With this answer the person is gone from the store: identifiers, events, consent, addresses and links are deleted,
    the audit log keeps who did what without the values, orders, messages and journeys keep counting without the person.
    Copies of mails in files are deleted after it. Suppressed addresses stay suppressed, as keyed hashes. The id of
    somebody merged into the person erases the same person.
    """
    record = await erasing.erase(session, person_id, by=actor, hashes=hashes)
    return ErasureStarted.model_validate(
        {"id": record.id, "person_id": record.person_id, "status": record.status}, strict=False
    )


@router.get("/people/{person_id}/export", operation_id="people.personal_data", dependencies=READ)
async def export(person_id: UUID, session: SessionDep, actor: ActorDep, response: Response) -> dict[str, Any]:
    """Return all that is held about a person, as a file: every row of every table, changes and merges included."""
    document = await exporting.export(session, person_id, by=actor)
    response.headers["Content-Disposition"] = f'attachment; filename="person-{document["person"]["id"]}.json"'
    response.headers["Cache-Control"] = "no-store"
    return document


@router.get("/erasures", dependencies=READ)
async def find(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[Erasure]:
    """List erasures, newest first."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await erasing.page(session, limit=limit + 1, before=before)
    return Page(
        items=[_shape(record) for record in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/erasures/{erasure_id}", dependencies=READ)
async def get(erasure_id: UUID, session: SessionDep) -> Erasure:
    """Return an erasure."""
    return _shape(await erasing.get(session, erasure_id))


def _shape(record: erasing.Erasure) -> Erasure:
    return Erasure.model_validate({name: getattr(record, name) for name in Erasure.model_fields})
