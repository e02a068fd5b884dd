"""Discount codes."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Query, status
from pydantic import Field, StrictBool, StrictInt

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Instant, Money, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.errors import InvalidError
from models import Discount
from services.commerce import discounts
from services.commerce.pricing import MAX_MINOR

router = Router(prefix="/discounts", tags=["carts"])

READ = [requires("discounts:read")]
WRITE = [requires("discounts:write")]

Kind = Literal["percent", "amount", "shipping"]
Code = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_\-]*$")]
Percent = Annotated[Decimal, Field(gt=0, le=100, decimal_places=2, allow_inf_nan=False, examples=["12.5"])]
Uses = Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]


class _Terms(Strict):
    percent: Percent | None = None
    """Of the goods; at most two decimal places."""
    amount: Money | None = None
    """Off the goods, at most what they cost."""
    minimum: Money | None = None
    """What the goods must cost at least."""
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    max_uses: Uses | None = None

    def terms(self) -> dict[str, Any]:
        """Return the fields that were given, by column.

        Raises:
            InvalidError: an amount is none in its currency, or there are two currencies.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        moneys = {name: given.pop(name) for name in ("amount", "minimum") if name in given}
        percent = given.pop("percent", None)
        if "percent" in self.model_fields_set:
            given["percent_bp"] = None if percent is None else int(percent * 100)
        for name, money in moneys.items():
            given[f"{name}_minor"] = None
            if isinstance(money, Money):
                given[f"{name}_minor"] = _minor(money, name, least=1 if name == "amount" else 0)
                if given.setdefault("currency", money.currency) != money.currency:
                    raise InvalidError.of("minimum.currency", "must be that of amount")
        return given


class DiscountIn(_Terms):
    """A new code."""

    code: Code
    """In any case; kept in upper case."""
    kind: Kind
    """Takes off `percent`, `amount`, or what shipping costs."""
    once_per_person: StrictBool = False
    active: StrictBool = True

    def fields(self) -> dict[str, Any]:
        """Return its columns."""
        own = {"code": self.code, "kind": self.kind, "once_per_person": self.once_per_person, "active": self.active}
        return self.terms() | own


class DiscountPatch(_Terms):
    """What to change; null clears what may be empty."""

    once_per_person: StrictBool | None = None
    active: StrictBool | None = None

    def fields(self) -> dict[str, Any]:
        """Return the columns to change."""
        return {
            name: value
            for name, value in self.terms().items()
            if value is not None or name not in {"once_per_person", "active"}
        }


class DiscountOut(Strict):
    """A code."""

    id: UUID
    code: str
    kind: Kind
    percent: Decimal | None
    amount: Money | None
    minimum: Money | None
    starts_at: datetime | None
    ends_at: datetime | None
    max_uses: int | None
    uses: int
    """Checkouts that hold it, and orders."""
    once_per_person: bool
    active: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Discount) -> Self:
        """Return the answer for a code."""
        names = cls.model_fields.keys() - {"percent", "amount", "minimum"}
        code = row.currency or ""
        return cls(
            **{name: getattr(row, name) for name in names},
            percent=None if row.percent_bp is None else Decimal(row.percent_bp).scaleb(-2),
            amount=None if row.amount_minor is None else Money.of(row.amount_minor, code),
            minimum=None if row.minimum_minor is None else Money.of(row.minimum_minor, code),
        )


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: DiscountIn, session: SessionDep, actor: ActorDep) -> DiscountOut:
    """Add a code. 409 where it is there already."""
    return DiscountOut.of(await discounts.create(session, body.fields(), by=actor))


@router.get("", dependencies=READ)
async def find(
    session: SessionDep,
    code: Annotated[str | None, Query(min_length=1, max_length=64)] = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[DiscountOut]:
    """List codes, newest first."""
    before: UUID | None = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await discounts.page(session, code=code, limit=limit + 1, before=before)
    return Page(
        items=[DiscountOut.of(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{discount_id}", dependencies=READ)
async def get(discount_id: UUID, session: SessionDep) -> DiscountOut:
    """Return a code."""
    return DiscountOut.of(await discounts.get(session, discount_id))


@router.patch("/{discount_id}", dependencies=WRITE)
async def update(discount_id: UUID, body: DiscountPatch, session: SessionDep, actor: ActorDep) -> DiscountOut:
    """Change a code; carts follow, orders stay as they were."""
    return DiscountOut.of(await discounts.update(session, discount_id, body.fields(), by=actor))


@router.delete("/{discount_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(discount_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Drop a code that nobody has used. 409 where it was used."""
    await discounts.delete(session, discount_id, by=actor)


def _minor(money: Money, field: str, *, least: int) -> int:
    minor = money.minor(field)
    if not least <= minor <= MAX_MINOR:
        raise InvalidError.of(f"{field}.amount", "must be more than zero" if least else "must not be below zero")
    return minor
