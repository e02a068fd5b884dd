"""A person's devices: the installed apps that push messages reach them by."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Response, status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.routing import Router
from services.marketing import devices
from services.marketing.devices import MAX_TOKEN, Platform

router = Router(prefix="/people/{person_id}/devices", tags=["people"])

READ = [requires("people:read")]
WRITE = [requires("people:write")]


class DeviceIn(Strict):
    """An app that somebody has signed in to."""

    token: Annotated[str, Field(min_length=1, max_length=MAX_TOKEN, pattern=r"^[!-~]+$")]
    """The registration token that FCM gave the app: printable ASCII without spaces."""
    platform: Platform


class DeviceOut(Strict):
    """A device of a person."""

    id: UUID
    token: str
    platform: Platform
    created_at: datetime
    seen_at: datetime
    """When it was last registered."""


class Devices(Strict):
    """All devices of a person."""

    items: list[DeviceOut]
    """The one seen last first; at most 50, and of somebody merged those of both."""


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE, responses={200: {"model": DeviceOut}})
async def register(
    person_id: UUID, body: DeviceIn, session: SessionDep, actor: ActorDep, response: Response
) -> DeviceOut:
    """Note that a person's app has this token (201); for one they have already, that it was seen now (200).

    A token that was another person's is theirs no longer: whoever signed in last gets the messages.
    """
    device, new = await devices.register(session, person_id, token=body.token, platform=body.platform, by=actor)
    if not new:
        response.status_code = status.HTTP_200_OK
    return DeviceOut.model_validate(device)


@router.get("", operation_id="people.devices.list", dependencies=READ)
async def find(person_id: UUID, session: SessionDep) -> Devices:
    """List a person's devices."""
    found = await devices.of_person(session, person_id)
    return Devices(items=[DeviceOut.model_validate(device) for device in found])


@router.delete("/{device_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(person_id: UUID, device_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Forget a device, as when somebody signs out."""
    await devices.remove(session, person_id, device_id, by=actor)
