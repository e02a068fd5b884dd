"""The tenant's own ways to send goods."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import status
from pydantic import Field, StrictBool, StrictInt

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Key, Money, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.errors import InvalidError
from models import ShippingMethod
from services.commerce import shipping_methods

router = Router(prefix="/shipping-methods", tags=["carts"])

READ = [requires("tenant:read")]
WRITE = [requires("tenant:write")]

Countries = Annotated[list[str], Field(min_length=1, max_length=300, examples=[["DE", "AT"]])]
Position = Annotated[StrictInt, Field(ge=0, le=2**31 - 1)]


class MethodIn(Strict):
    """A way to send goods, in one currency; the same key may stand for it in others too."""

    key: Key
    name: Name
    amount: Money
    free_from: Money | None = None
    """Costs nothing where the goods, after discount, are at least this."""
    countries: Countries | None = None
    """ISO 3166-1 alpha-2; everywhere unless given."""
    tax_class: Key = "standard"
    position: Position = 0
    active: StrictBool = True

    def fields(self) -> dict[str, Any]:
        """Return its columns."""
        code = self.amount.currency
        plain = self.model_dump(exclude={"amount", "free_from"})
        free_from = None if self.free_from is None else _minor(self.free_from, "free_from", code)
        return plain | {
            "currency": code,
            "amount_minor": _minor(self.amount, "amount", code),
            "free_from_minor": free_from,
        }


class MethodPatch(Strict):
    """What to change; null clears `free_from` and `countries`, and leaves the others as they are."""

    name: Name | None = None
    amount: Money | None = None
    free_from: Money | None = None
    countries: Countries | None = None
    tax_class: Key | None = None
    position: Position | None = None
    active: StrictBool | None = None

    def fields(self, code: str) -> dict[str, Any]:
        """Return the columns to change of a method in this currency."""
        changes = self.model_dump(exclude={"amount", "free_from", "countries"}, exclude_none=True)
        if self.amount is not None:
            changes["amount_minor"] = _minor(self.amount, "amount", code)
        if "free_from" in self.model_fields_set:
            changes["free_from_minor"] = None if self.free_from is None else _minor(self.free_from, "free_from", code)
        if "countries" in self.model_fields_set:
            changes["countries"] = self.countries
        return changes


class MethodOut(Strict):
    """A way to send goods."""

    id: UUID
    key: str
    name: str
    amount: Money
    free_from: Money | None
    countries: list[str] | None
    tax_class: str
    position: int
    active: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: ShippingMethod) -> Self:
        """Return the answer for a method."""
        names = cls.model_fields.keys() - {"amount", "free_from"}
        free_from = None if row.free_from_minor is None else Money.of(row.free_from_minor, row.currency)
        return cls(
            **{name: getattr(row, name) for name in names},
            amount=Money.of(row.amount_minor, row.currency),
            free_from=free_from,
        )


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: MethodIn, session: SessionDep, actor: ActorDep) -> MethodOut:
    """Add a method. 409 where the key is taken in that currency."""
    return MethodOut.of(await shipping_methods.create(session, body.fields(), by=actor))


@router.get("", dependencies=READ)
async def find(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[MethodOut]:
    """List methods, oldest first."""
    after: UUID | None = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await shipping_methods.page(session, limit=limit + 1, after=after)
    return Page(
        items=[MethodOut.of(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{method_id}", dependencies=READ)
async def get(method_id: UUID, session: SessionDep) -> MethodOut:
    """Return a method."""
    return MethodOut.of(await shipping_methods.get(session, method_id))


@router.patch("/{method_id}", dependencies=WRITE)
async def update(method_id: UUID, body: MethodPatch, session: SessionDep, actor: ActorDep) -> MethodOut:
    """Change a method; carts follow, orders stay as they were."""
    code = (await shipping_methods.get(session, method_id)).currency
    return MethodOut.of(await shipping_methods.update(session, method_id, body.fields(code), by=actor))


@router.delete("/{method_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(method_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Drop a method; carts that chose it have to choose another."""
    await shipping_methods.delete(session, method_id, by=actor)


def _minor(money: Money, field: str, code: str) -> int:
    if money.currency != code:
        raise InvalidError.of(f"{field}.currency", f"must be {code}, as the method is in it")
    minor = money.minor(field)
    if minor < 0:
        raise InvalidError.of(f"{field}.amount", "must not be below zero")
    return minor
