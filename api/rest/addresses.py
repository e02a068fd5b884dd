"""Postal addresses of people and organizations.

A key needs the scopes of both nouns: an address's id does not say whose it is.
"""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import status
from pydantic import Field, model_validator

from api.dependencies import ActorDep, SessionDep, SettingsDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from integrations.geocoding.port import Place, Precision
from models import Address
from services.shared import address_locations, address_rules, addresses

router = Router(prefix="/addresses", tags=["addresses"])

READ = [requires("people:read"), requires("organizations:read")]
WRITE = [requires("people:write"), requires("organizations:write")]

Latitude = Annotated[float | None, Field(ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float | None, Field(ge=-180, le=180, allow_inf_nan=False)]
_Text = Annotated[str | None, Field(max_length=1200)]


class _Written(Strict):
    name: _Text = None
    """Who receives what is sent there."""
    company: _Text = None
    street: Annotated[_Text, Field(examples=["Hauptstr. 1"])] = None
    """Up to five lines."""
    city: _Text = None
    city_area: _Text = None
    """A part of the city, where the country's addresses name it."""
    region: Annotated[_Text, Field(examples=["CA"])] = None
    """State, province or canton, by its name or as the post abbreviates it."""
    postal_code: _Text = None
    sorting_code: _Text = None
    """`CEDEX` and the like."""
    country: Annotated[str | None, Field(examples=["DE"])] = None
    """ISO 3166-1 alpha-2."""

    def written(self) -> dict[str, str | None]:
        """Return the fields that were given."""
        return {
            name: getattr(self, name) for name in (*address_rules.FIELDS, "country") if name in self.model_fields_set
        }


class _Located(_Written):
    latitude: Latitude = None
    """WGS 84, degrees; given with `longitude`, it wins over any geocoder."""
    longitude: Longitude = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("latitude and longitude must be given together")
        return self

    def _change(self, purposes: list[addresses.Purpose] | None) -> addresses.AddressChange:
        located = None if self.latitude is None or self.longitude is None else (self.latitude, self.longitude)
        return addresses.AddressChange(fields=self.written(), purposes=purposes, coordinates=located)


class AddressIn(_Located):
    """A new address."""

    subject_type: addresses.SubjectType
    subject_id: UUID
    """Whose it is."""
    purposes: Annotated[list[addresses.Purpose], Field(min_length=1, max_length=20)]
    """What it is for; of a subject's addresses at most one has each, so others lose theirs."""

    def change(self) -> addresses.AddressChange:
        """Return what is to be true of it."""
        return self._change(self.purposes)


class AddressPatch(_Located):
    """What to change; null clears."""

    purposes: Annotated[list[addresses.Purpose] | None, Field(max_length=20)] = None

    def change(self) -> addresses.AddressChange:
        """Return what is to be true of it."""
        return self._change(self.purposes)


class AddressOut(Strict):
    """An address."""

    id: UUID
    subject_type: addresses.SubjectType
    subject_id: UUID
    purposes: list[addresses.Purpose]
    name: str | None
    company: str | None
    street: str | None
    city: str | None
    city_area: str | None
    region: str | None
    postal_code: str | None
    sorting_code: str | None
    country: str
    lines: list[str]
    """As the country's post has it written."""
    latitude: float | None
    longitude: float | None
    precision: Precision | None
    """How exact the coordinates are; null for those a caller gave."""
    geocoder: str | None
    """Who gave the coordinates: `offline`, `nominatim` or `caller`."""
    geocoded_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, address: Address) -> Self:
        """Return the answer for an address."""
        plain = {name: getattr(address, name) for name in cls.model_fields if name != "lines"}
        return cls.model_validate({**plain, "lines": address_rules.lines(_written(plain))})


class ToValidate(_Written):
    """An address to look at."""


class AddressProblemOut(Strict):
    """What is wrong with a field."""

    field: str
    reason: str


class WrittenOut(Strict):
    """An address in its normal spelling."""

    name: str | None
    company: str | None
    street: str | None
    city: str | None
    city_area: str | None
    region: str | None
    postal_code: str | None
    sorting_code: str | None
    country: str | None


class ValidatedOut(Strict):
    """What is known of an address without storing it."""

    valid: bool
    address: WrittenOut
    lines: list[str]
    """As the country's post has it written; empty where something is wrong."""
    problems: list[AddressProblemOut]
    latitude: float | None
    """By the table of cities, whatever the geocoder."""
    longitude: float | None
    precision: Precision | None


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: AddressIn, session: SessionDep, actor: ActorDep, settings: SettingsDep) -> AddressOut:
    """Add an address to a person or an organization.

    What the country's addresses need and how it is spelled is checked; coordinates are those given, or a geocoder's.
    """
    address = await addresses.create(
        session, body.subject_type, body.subject_id, body.change(), by=actor, mode=settings.geocoder
    )
    return AddressOut.of(address)


@router.get("", dependencies=READ)
async def find(
    subject_type: addresses.SubjectType,
    subject_id: UUID,
    session: SessionDep,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[AddressOut]:
    """List the addresses of a person or an organization, newest first."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await addresses.page(session, subject_type, subject_id, limit=limit + 1, before=before)
    return Page(
        items=[AddressOut.of(address) for address in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.post("/validate", dependencies=READ)
async def validate(body: ToValidate) -> ValidatedOut:
    """Say how an address is written, what is wrong with it and about where it is; nothing is stored or sent."""
    address, problems = address_rules.check(body.written())
    located = None
    if address["country"] is not None and not problems:
        place = {name: address[name] for name in ("street", "city", "region", "postal_code")}
        located = await address_locations.look_up(Place(country=address["country"], **place))
    return ValidatedOut(
        valid=not problems,
        address=WrittenOut.model_validate(address),
        lines=[] if problems else address_rules.lines(address),
        problems=[AddressProblemOut(field=problem.field, reason=problem.reason) for problem in problems],
        latitude=located[0].latitude if located else None,
        longitude=located[0].longitude if located else None,
        precision=located[0].precision if located else None,
    )


@router.get("/{address_id}", dependencies=READ)
async def get(address_id: UUID, session: SessionDep) -> AddressOut:
    """Return an address."""
    return AddressOut.of(await addresses.get(session, address_id))


@router.patch("/{address_id}", dependencies=WRITE)
async def update(
    address_id: UUID, body: AddressPatch, session: SessionDep, actor: ActorDep, settings: SettingsDep
) -> AddressOut:
    """Change an address; a new place loses the coordinates of the old one, whoever gave them."""
    return AddressOut.of(await addresses.update(session, address_id, body.change(), by=actor, mode=settings.geocoder))


@router.delete("/{address_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(address_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete an address."""
    await addresses.remove(session, address_id, by=actor)


def _written(plain: dict[str, Any]) -> dict[str, str | None]:
    return {name: plain[name] for name in (*address_rules.FIELDS, "country")}
