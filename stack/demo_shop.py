"""The demo's part on the shop: a cart is filled and left, checked out after all, sent, and a piece given back."""

from typing import Any, Final

from stack.demo_people import Driver

PRODUCTS: Final[tuple[dict[str, Any], ...]] = (
    {
        "key": "tent",
        "name": "Tent",
        "variants": [{"sku": "TENT-2", "name": "for two", "prices": [{"amount": "129.00", "currency": "EUR"}]}],
    },
    {
        "key": "mat",
        "name": "Sleeping mat",
        "variants": [{"sku": "MAT", "prices": [{"amount": "35.50", "currency": "EUR"}]}],
    },
)
STOCK: Final = {"TENT-2": 20, "MAT": 100}
LOCATION: Final = {"key": "warehouse", "name": "Warehouse"}
TAX: Final = {"country": "DE", "rate": "19", "name": "MwSt"}
SHIPPING: Final[dict[str, Any]] = {
    "key": "parcel",
    "name": "Parcel",
    "amount": {"amount": "4.90", "currency": "EUR"},
    "free_from": {"amount": "250.00", "currency": "EUR"},
}
DISCOUNT: Final = {"code": "HELLO10", "kind": "percent", "percent": "10"}
HOME: Final = {
    "name": "John Doe",
    "street": "Unter den Linden 1",
    "postal_code": "10117",
    "city": "Berlin",
    "country": "DE",
}


def prepare(driver: Driver) -> None:
    """Make the catalogue, its stock, taxes, shipping and a code; an earlier run's are kept, and the shelves filled."""
    driver.call("PATCH", "/tenant", {"prices_include_tax": True})
    driver.call("POST", "/stock-locations", LOCATION, fine=(409,))
    for product in PRODUCTS:
        driver.call("POST", "/products", product, fine=(409,))
    counts = [{"sku": sku, "counted": pieces} for sku, pieces in STOCK.items()]
    driver.call("POST", "/inventory/adjustments", {"adjustments": counts})
    driver.call("POST", "/tax-rates", TAX, fine=(409,))
    driver.call("POST", "/shipping-methods", SHIPPING, fine=(409,))
    driver.call("POST", "/discounts", DISCOUNT, fine=(409,))


def fill(driver: Driver, *, person_id: str) -> dict[str, Any]:
    """Put a tent and two mats into a cart of his; return it."""
    lines = [{"sku": "TENT-2", "quantity": 1}, {"sku": "MAT", "quantity": 2}]
    cart = driver.call("POST", "/carts", {"person_id": person_id, "currency": "EUR", "lines": lines}).json()
    driver.tell(f"   a tent and two mats, {money(cart['total'])}")
    return cart


def check_out(driver: Driver, cart: dict[str, Any]) -> dict[str, Any]:
    """Have a bank refuse it, buy it by another card, and send it; return the order."""
    wanted = {"shipping_address": HOME, "shipping_method": "parcel"}
    path = f"/carts/{cart['id']}/checkout"
    driver.call("PATCH", f"/carts/{cart['id']}", {"discount_code": DISCOUNT["code"]})
    refused = driver.call("POST", path, {**wanted, "payment": {"method": "decline"}}, fine=(402,))
    driver.tell(f"   His first card is declined ({refused.status_code}): the cart is as it was, nothing is held.")
    order = driver.call("POST", path, {**wanted, "payment": {"method": "approve"}}).json()
    driver.tell(
        f"   Order {order['number']}: {money(order['subtotal'])}, discount {money(order['discount'])}, shipping "
        f"{money(order['shipping'])}, total {money(order['total'])} with {money(order['tax'])} of tax, "
        f"{order['payment_status']}."
    )
    driver.call("POST", f"/orders/{order['id']}/fulfilments", {"carrier": "DHL", "tracking_number": "00340434"})
    return order


def give_back(driver: Driver, order: dict[str, Any], *, person_id: str) -> None:
    """Take one mat back, and see what he has spent then."""
    before = _spent(driver, person_id)
    line = next(each for each in order["lines"] if each["sku"] == "MAT")
    returned = {"line_id": line["id"], "quantity": 1, "restock": True}
    refund = driver.call("POST", f"/orders/{order['id']}/refunds", {"lines": [returned], "reason": "too long"}).json()
    now = driver.get(f"/orders/{order['id']}")
    driver.tell(
        f"   {money(refund['amount'])} given back; the order is {now['payment_status']} and {now['fulfilment_status']}."
    )
    driver.until("his new total", lambda: True if _spent(driver, person_id) != before else None)


def _spent(driver: Driver, person_id: str) -> dict[str, str]:
    return driver.get(f"/people/{person_id}/profile")["customer"]["total_spent"]


def money(value: dict[str, str]) -> str:
    """Return an amount as people read it."""
    return f"{value['amount']} {value['currency']}"
