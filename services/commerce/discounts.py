"""Discount codes: kept, judged, and held by checkouts.

A code's uses are counted under the lock of its row, so `max_uses` and `once_per_person` are exact however many check
out at once. What is held is given back when the checkout comes to nothing.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete as delete_from
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from core import currency
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Cart, Discount, DiscountUse
from services.commerce.cart_errors import DiscountError
from services.shared import activity

_VALUES: Final = {"percent": "percent_bp", "amount": "amount_minor", "shipping": None}
"""By kind, the column that says how much."""


def normalized(code: str) -> str:
    """Return a code as it is kept."""
    return code.strip().upper()


def _problem_of(row: Discount, *, code_currency: str, now: datetime) -> str | None:
    """Say why a code holds for no cart in this currency now; None where it may."""
    if not row.active:
        return "does not hold any more"
    if row.starts_at is not None and now < row.starts_at:
        return "does not hold yet"
    if row.ends_at is not None and now >= row.ends_at:
        return "does not hold any more"
    if row.currency is not None and row.currency != code_currency:
        return f"holds for carts in {row.currency} alone"
    return None


def problem_now(row: Discount, *, code_currency: str) -> str | None:
    """Say why nobody can begin to use a code in a cart in this currency; None where they can."""
    reason = _problem_of(row, code_currency=code_currency, now=datetime.now(UTC))
    return "is used up" if reason is None and _used_up(row) else reason


def _used_up(row: Discount) -> bool:
    """Say whether as many have used it as may."""
    return row.max_uses is not None and row.uses >= row.max_uses


def below_minimum(row: Discount, subtotal_minor: int) -> str | None:
    """Say what goods must cost at least for a code, where these do not; None where they do."""
    if row.minimum_minor is None or row.currency is None or subtotal_minor >= row.minimum_minor:
        return None
    return f"holds for goods of at least {currency.from_minor(row.minimum_minor, row.currency)} {row.currency}"


async def hold(session: TenantSession, cart: Cart, person_id: UUID | None) -> None:
    """Count the use of a cart's code for its checkout; held before by the same cart it is not counted again.

    Raises:
        DiscountError: it is used up, was used by the person before, or does not hold any more.
    """
    if cart.discount_code is None:
        return
    row = await session.scalar(
        select(Discount)
        .where(Discount.tenant_id == session.tenant_id, Discount.code == cart.discount_code)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise refused(cart.discount_code, "is not known")
    before = await session.get(DiscountUse, (session.tenant_id, row.id, cart.id), populate_existing=True)
    if before is not None:
        return
    problem = problem_now(row, code_currency=cart.currency)
    if problem is None and row.once_per_person and await _used_by(session, row.id, person_id):
        problem = "was used by this person before"
    if problem is not None:
        raise refused(row.code, problem)
    session.add(DiscountUse(tenant_id=session.tenant_id, discount_id=row.id, cart_id=cart.id, person_id=person_id))
    row.uses += 1
    await session.flush()


async def give_back(session: TenantSession, cart_ids: Collection[UUID]) -> None:
    """Have the uses that carts hold not count any more; those that hold none are left alone."""
    if not cart_ids:
        return
    mine = (DiscountUse.tenant_id == session.tenant_id, DiscountUse.cart_id.in_(sorted(set(cart_ids))))
    rows = await session.scalars(
        select(Discount)
        .where(Discount.tenant_id == session.tenant_id, Discount.id.in_(select(DiscountUse.discount_id).where(*mine)))
        .order_by(Discount.id)  # so that nobody waits for somebody who waits for them
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    codes = rows.all()
    if not codes:
        return
    gone = await session.scalars(
        delete_from(DiscountUse)
        .where(*mine)
        .returning(DiscountUse.discount_id)
        .execution_options(synchronize_session=False)
    )
    uses = Counter(gone)
    for row in codes:
        row.uses -= uses[row.id]
    await session.flush()


def refused(code: str, reason: str) -> DiscountError:
    """Return the error for a code that does not hold."""
    return DiscountError(f"The code {code} {reason}.", errors=[FieldProblem("discount_code", reason)])


async def find(session: TenantSession, code: str) -> Discount | None:
    """Return the discount that a code, in its normal spelling, stands for."""
    return await session.scalar(
        select(Discount)
        .where(Discount.tenant_id == session.tenant_id, Discount.code == code)
        .execution_options(populate_existing=True)
    )


async def by_id(session: TenantSession, discount_ids: Collection[UUID]) -> dict[UUID, Discount]:
    """Return discounts by their ids."""
    rows = await session.scalars(
        select(Discount)
        .where(Discount.tenant_id == session.tenant_id, Discount.id.in_(sorted(discount_ids)))
        .execution_options(populate_existing=True)
    )
    return {row.id: row for row in rows}


async def create(session: TenantSession, fields: Mapping[str, Any], *, by: Actor) -> Discount:
    """Add a code: its columns by name.

    Raises:
        InvalidError: its parts do not fit its kind or one another.
        ConflictError: the code is taken.
    """
    fields = {**fields, "code": normalized(fields["code"])}
    _check(fields)
    row = await session.scalar(
        insert(Discount)
        .values({"tenant_id": session.tenant_id, "id": new_id(), **fields})
        .on_conflict_do_nothing()
        .returning(Discount)
    )
    if row is None:
        raise ConflictError(f"There is a code {fields['code']} already.", errors=[FieldProblem("code", "is taken")])
    await _log(session, row, "created", {name: (None, value) for name, value in fields.items()}, by=by)
    return row


async def update(session: TenantSession, discount_id: UUID, fields: Mapping[str, Any], *, by: Actor) -> Discount:
    """Change a code: any of its columns but `code` and `kind`; carts follow, orders stay as they were.

    Raises:
        NotFoundError: no such discount in this tenant.
        InvalidError: its parts do not fit its kind or one another.
    """
    row = await get(session, discount_id, lock=True)
    changes = {name: (getattr(row, name), value) for name, value in fields.items() if getattr(row, name) != value}
    if not changes:
        return row
    names = ("kind", "percent_bp", "amount_minor", "minimum_minor", "currency", "starts_at", "ends_at")
    after = {name: getattr(row, name) for name in names} | dict(fields)
    _check(after)
    for name in ("amount_minor", "minimum_minor"):
        if "currency" in changes and name not in fields and after[name] is not None:
            field = name.removesuffix("_minor")
            raise InvalidError.of(f"{field}.amount", f"must be given too, in {fields['currency']}")
    for name, (_, value) in changes.items():
        setattr(row, name, value)
    row.updated_at = func.now()
    await session.flush()
    await session.refresh(row)
    await _log(session, row, "updated", changes, by=by)
    return row


async def delete(session: TenantSession, discount_id: UUID, *, by: Actor) -> None:
    """Drop a code that nobody has used; one that was used can only be made inactive.

    Raises:
        NotFoundError: no such discount in this tenant.
        ConflictError: it was used.
    """
    row = await get(session, discount_id, lock=True)
    if row.uses:
        raise ConflictError("The code was used: make it inactive instead.")
    await session.delete(row)
    await session.flush()
    await _log(session, row, "deleted", {"code": (row.code, None)}, by=by)


async def get(session: TenantSession, discount_id: UUID, *, lock: bool = False) -> Discount:
    """Return a discount.

    Raises:
        NotFoundError: no such discount in this tenant.
    """
    key = (session.tenant_id, discount_id)
    row = await session.get(Discount, key, with_for_update=lock or None, populate_existing=True)
    if row is None:
        raise NotFoundError("No such discount.")
    return row


async def page(session: TenantSession, *, code: str | None, limit: int, before: UUID | None) -> Sequence[Discount]:
    """Return up to `limit` discounts, newest first, those made before `before` only."""
    statement = select(Discount).where(Discount.tenant_id == session.tenant_id)
    if code is not None:
        statement = statement.where(Discount.code == normalized(code))
    if before is not None:
        statement = statement.where(Discount.id < before)
    return (await session.scalars(statement.order_by(Discount.id.desc()).limit(limit))).all()


async def _used_by(session: TenantSession, discount_id: UUID, person_id: UUID | None) -> bool:
    if person_id is None:
        return False
    found = await session.scalar(
        select(DiscountUse.cart_id)
        .where(
            DiscountUse.tenant_id == session.tenant_id,
            DiscountUse.person_id == person_id,
            DiscountUse.discount_id == discount_id,
        )
        .limit(1)
    )
    return found is not None


def _check(fields: Mapping[str, Any]) -> None:
    problems: list[FieldProblem] = []
    names = {"percent_bp": "percent", "amount_minor": "amount"}
    for kind, column in _VALUES.items():
        if column is None:
            continue
        given = fields.get(column) is not None
        if kind == fields["kind"] and not given:
            problems.append(FieldProblem(names[column], f"is needed where kind is {kind}"))
        if kind != fields["kind"] and given:
            problems.append(FieldProblem(names[column], f"is for the kind {kind} alone"))
    starts, ends = fields.get("starts_at"), fields.get("ends_at")
    if starts is not None and ends is not None and ends <= starts:
        problems.append(FieldProblem("ends_at", "must be after starts_at"))
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)


async def _log(session: TenantSession, row: Discount, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    shown = {
        name: tuple(value.isoformat() if isinstance(value, datetime) else value for value in pair)
        for name, pair in changes.items()
    }
    await activity.record(
        session,
        by=by,
        subject_type="discount",
        subject_id=row.id,
        type=f"discount.{verb}",
        changes={name: (before, after) for name, (before, after) in shown.items()},
    )
