"""Orders that an organization pays on its terms: charged to its ledger once, credited for what is given back."""

from uuid import UUID

from core.actor import Actor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError
from models import Order, OrganizationEntry
from services.identity import organization_ledger, organizations
from services.identity.organization_ledger import CreditLimitError, NewEntry


async def charge(
    session: TenantSession, organization_id: UUID, *, order_id: UUID, amount_minor: int, currency: str, by: Actor
) -> OrganizationEntry:
    """Book what an order costs as a debt of the organization, due on its payment terms; a second time it is the same.

    The organization's row is held until the transaction ends, so that two orders cannot both use the rest of a limit.

    Raises:
        InvalidError: the organization's account is in another currency, or there is no such organization.
        CreditLimitError: it would owe more than its limit.
    """
    await _check_currency(session, organization_id, currency)
    new = NewEntry(kind="charge", amount_minor=amount_minor, currency=currency, reference=reference(order_id))
    try:
        entry, _ = await organization_ledger.book(session, organization_id, new, by=by)
    except CreditLimitError as error:
        left = f"{error.extra['available']['amount']} {currency}"
        raise CreditLimitError(
            f"The order goes beyond the organization's credit limit: {left} is available.",
            errors=[FieldProblem("on_account", f"only {left} is available")],
            extra=error.extra,
        ) from error
    return entry


async def credit(session: TenantSession, order: Order, *, refund_id: UUID, amount_minor: int, by: Actor) -> None:
    """Book what is given back of an order on account; a second time for a refund it changes nothing."""
    if order.organization_id is None:
        raise AssertionError("an order on account is an organization's")
    new = NewEntry(
        kind="credit",
        amount_minor=amount_minor,
        currency=order.currency,
        reference=f"refund:{refund_id}",
        note=f"Order {order.number}",
    )
    await organization_ledger.book(session, order.organization_id, new, by=by)


def reference(order_id: UUID) -> str:
    """Return what the charge of an order stands for in the ledger."""
    return f"order:{order_id}"


async def _check_currency(session: TenantSession, organization_id: UUID, currency: str) -> None:
    organization = await organizations.locked(session, organization_id)
    if organization is None:
        raise InvalidError.of("organization_id", "there is no such organization")
    if organization.currency != currency:
        raise InvalidError.of("on_account", f"the organization's account is in {organization.currency}")
