"""What callers may say of a cart, checked and in the spelling the store has."""

import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from core import currency
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError
from models import Organization, Person, ShippingMethod, Tenant
from services.commerce import discounts
from services.identity import aliases, attributes, normalize
from services.shared import address_rules

FIELDS: Final = (
    "person_id",
    "organization_id",
    "email",
    "currency",
    "discount_code",
    "shipping_method",
    "shipping_address",
    "billing_address",
    "attributes",
)
"""What a caller may set; null clears, but for the currency. Attributes are merged key by key, where null removes."""
PRIVATE: Final = frozenset({"email", "shipping_address", "billing_address", "attributes"})
"""About somebody: in no log."""


async def held(session: TenantSession, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with the living person they name, held until the transaction ends.

    To be called before the cart is locked: whoever merges or erases people takes them first, then what is theirs.

    Raises:
        InvalidError: there is no such person.
    """
    if fields.get("person_id") is None:
        return dict(fields)
    return {**fields, "person_id": await _person(session, fields["person_id"])}


async def checked(
    session: TenantSession, fields: Mapping[str, Any], *, before: Mapping[str, Any], code_currency: str
) -> dict[str, Any]:
    """Return the fields as they are kept.

    Args:
        session: of the tenant.
        fields: of `FIELDS`, those to set.
        before: what the cart has of them.
        code_currency: what the cart is in from now on.

    Raises:
        InvalidError: a value is not acceptable; a code or a method that is not known is one.
    """
    found = dict(fields)
    if fields.get("organization_id") is not None:
        await _check_organization(session, fields["organization_id"])
    if fields.get("email") is not None:
        found["email"] = normalize.email(fields["email"])
    for name in ("shipping_address", "billing_address"):
        if fields.get(name) is not None:
            found[name] = address(fields[name], name)
    if "attributes" in fields:
        found["attributes"] = _merged(before.get("attributes") or {}, fields["attributes"] or {})
    if fields.get("discount_code") is not None:
        found["discount_code"] = await _code(session, fields["discount_code"], code_currency)
    if fields.get("shipping_method") is not None:
        await _check_method(session, fields["shipping_method"], code_currency)
    return found


async def currency_of(session: TenantSession, given: str | None) -> str:
    """Return the currency of a new cart: the tenant's base currency unless another is given.

    Raises:
        InvalidError: it is not one.
    """
    if given is None:
        base = await session.scalar(select(Tenant.base_currency).where(Tenant.id == session.tenant_id))
        return base or "EUR"
    if given not in currency.EXPONENTS:
        raise InvalidError.of("currency", "is not a currency code of ISO 4217")
    return given


def shown(name: str, value: object) -> object:
    """Return a value as the activity log has it."""
    if value is not None and name in PRIVATE:
        return "[private]" if value else None
    return str(value) if isinstance(value, UUID) else value


async def _person(session: TenantSession, person_id: UUID) -> UUID:
    asked = await aliases.living(session, person_id)
    there = await session.scalar(
        select(Person.id)
        .where(Person.tenant_id == session.tenant_id, Person.id == asked)
        .with_for_update(read=True, key_share=True)
    )
    if there is None:
        raise InvalidError.of("person_id", "there is no such person")
    return there


async def _check_organization(session: TenantSession, organization_id: UUID) -> None:
    there = await session.scalar(
        select(Organization.id)
        .where(Organization.tenant_id == session.tenant_id, Organization.id == organization_id)
        .with_for_update(read=True, key_share=True)
    )
    if there is None:
        raise InvalidError.of("organization_id", "there is no such organization")


def address(given: Mapping[str, str | None], name: str) -> dict[str, str | None]:
    """Return an address in its normal spelling; it may lack anything but the country, as shops ask bit by bit."""
    written, problems = address_rules.check(given)
    wrong = [
        FieldProblem(f"{name}.{problem.field}", problem.reason)
        for problem in problems
        if problem.field == "country" or given.get(problem.field)
    ]
    if wrong:
        raise InvalidError(f"{wrong[0].field}: {wrong[0].reason}", errors=wrong)
    return written


def _merged(current: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    attributes.check(given)
    result = {name: value for name, value in {**current, **given}.items() if value is not None}
    if len(json.dumps(result, ensure_ascii=False).encode()) > attributes.MAX_BYTES:
        raise InvalidError.of("attributes", f"may take {attributes.MAX_BYTES} bytes as JSON in all")
    return result


async def _code(session: TenantSession, given: str, code_currency: str) -> str:
    code = discounts.normalized(given)
    row = await discounts.find(session, code)
    reason = "is not known" if row is None else discounts.problem_now(row, code_currency=code_currency)
    if reason is not None:
        raise InvalidError.of("discount_code", reason)
    return code


async def _check_method(session: TenantSession, key: str, code_currency: str) -> None:
    there = await session.scalar(
        select(ShippingMethod.id).where(
            ShippingMethod.tenant_id == session.tenant_id,
            ShippingMethod.key == key,
            ShippingMethod.currency == code_currency,
            ShippingMethod.active.is_(True),
        )
    )
    if there is None:
        raise InvalidError.of("shipping_method", f"is not offered in {code_currency}")
