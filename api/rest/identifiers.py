"""The identifiers of a person: several email addresses, phone numbers and ids, one of each kind shown."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import status
from pydantic import Field, StrictBool

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.rest.person_shapes import PersonOut
from api.routing import Router
from services.identity import directory, identifiers

router = Router(prefix="/people/{person_id}/identifiers", tags=["people"])

WRITE = [requires("people:write")]

Kind = Literal["email", "phone", "external_id", "anonymous_id"]


class IdentifierIn(Strict):
    """An identifier to add, or one the person has to label or show."""

    kind: Kind
    value: str
    label: Annotated[
        str | None, Field(min_length=1, max_length=identifiers.MAX_LABEL, pattern=r"^\S(.*\S)?$", examples=["work"])
    ] = None
    primary: StrictBool = False
    """Make it the one shown, to which mail goes."""


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def attach(person_id: UUID, body: IdentifierIn, session: SessionDep, actor: ActorDep) -> PersonOut:
    """Point an identifier to a person, who keeps those it has; at most 20 of a kind, of anonymous ids the last 100.

    Repeated, it changes the label and which one is shown. 409 where it points to another person.
    """
    person = await identifiers.attach(
        session, person_id, kind=body.kind, value=body.value, label=body.label, primary=body.primary, by=actor
    )
    (shown,) = await directory.show(session, [person])
    return PersonOut.of(shown)


@router.delete("/{kind}/{value:path}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def detach(person_id: UUID, kind: Kind, value: str, session: SessionDep, actor: ActorDep) -> None:
    """Take an identifier from a person. Where it was the one shown, the oldest of its kind that is left is."""
    await identifiers.detach(session, person_id, kind=kind, value=value, by=actor)
