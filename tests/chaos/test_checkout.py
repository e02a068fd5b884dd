"""Workers and API are killed at each step of checkouts: no money without an order, no order without its pieces."""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

import httpx
import pytest

from core.database import Database
from tests.chaos.deployment import Deployment, say
from tests.chaos.shop import Shop
from tests.factories.checking_out import WRONG
from tests.factories.goods import goods

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

CARTS: Final = 120
BUYERS: Final = 12
METHODS: Final = ("approve", "fail_after_capture", "approve", "fail_capture", "approve", "decline")
STEPS: Final = {
    "reserved": "status = 'pending' AND c.status = 'checking_out'",
    "authorized": "status = 'authorized' AND c.status = 'checking_out'",
    "captured": "status = 'captured' AND c.status = 'checking_out'",
    "released": "status = 'authorized' AND c.status = 'open'",
}
"""Where a checkout stands between two steps, by its last payment and its cart."""


def test_wherever_it_is_killed_a_checkout_ends_whole(deployment: Deployment, shop: Shop) -> None:
    deployment.run(_fill(deployment.database_url, shop.tenant_id))
    carts = [
        shop.call("POST", "/carts", {"email": f"b{n}@chaos.example", "lines": [{"sku": "SHIRT"}]})["id"]
        for n in range(CARTS)
    ]
    begun = time.monotonic()
    buyers = Buyers(shop, [(cart, METHODS[n % len(METHODS)]) for n, cart in enumerate(carts)])
    hit: set[str] = set()
    with ThreadPoolExecutor(BUYERS) as pool:
        threads = [pool.submit(buyers.buy) for _ in range(BUYERS)]
        for step in list(STEPS) * 2:
            if step in hit or len(buyers.orders) > CARTS // 2:
                continue
            deployment.wait_for(f"one is {step}", lambda step=step: _standing(deployment, shop, step), seconds=60)
            for process in (*deployment.workers, deployment.api):
                deployment.kill(process)
            here = {name for name in STEPS if _standing(deployment, shop, name)}
            say(f"killed all after {len(buyers.orders)} orders, some {', '.join(sorted(here)) or 'nowhere'}")
            hit |= here
            deployment.revive()
        for thread in threads:
            thread.result(timeout=120)
    say(f"{CARTS} orders in {time.monotonic() - begun:.0f} s")

    # each step was met, and each cart is one order all the same
    assert hit == set(STEPS)
    assert set(buyers.orders) == set(carts)
    assert len(set(buyers.orders.values())) == CARTS

    def wrong() -> list[Any]:
        return deployment.fetch(WRONG.replace(":tenant", "$1"), shop.tenant_id)

    deployment.wait_for("what was promised is let go", lambda: not wrong(), seconds=60)
    (level,) = deployment.fetch("SELECT on_hand, reserved FROM stock_level WHERE tenant_id = $1", shop.tenant_id)
    assert tuple(level) == (CARTS, CARTS)
    placed = "SELECT count(*) FROM event WHERE tenant_id = $1 AND type = 'order.placed'"
    assert deployment.count(placed, shop.tenant_id) == CARTS


class Buyers:
    """What several threads buy; one that gets no answer goes on with another cart, and comes back to this one."""

    def __init__(self, shop: Shop, carts: Sequence[tuple[str, str]]) -> None:
        self._shop = shop
        self._left = deque(carts)
        self.orders: dict[str, str] = {}
        """By cart."""

    def buy(self) -> None:
        """Ask until every cart is an order; one that is declined is paid in another way."""
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline:
            try:
                cart, method = self._left.popleft()
            except IndexError:
                return
            try:
                answer = self._shop.ask("POST", f"/carts/{cart}/checkout", {"payment": {"method": method}})
            except httpx.TransportError:
                time.sleep(0.1)
                self._left.append((cart, method))
                continue
            if answer.status_code in {HTTPStatus.OK, HTTPStatus.CREATED}:
                self.orders[cart] = answer.json()["id"]
                continue
            if answer.status_code == HTTPStatus.PAYMENT_REQUIRED:
                method = "approve"
            elif answer.status_code != HTTPStatus.ACCEPTED:
                assert answer.is_server_error, answer.text
            self._left.append((cart, method))
        raise AssertionError(f"no orders of {self._left} in time")


def _standing(deployment: Deployment, shop: Shop, step: str) -> bool:
    return bool(
        deployment.count(
            "SELECT count(*) FROM cart c JOIN payment p ON p.tenant_id = c.tenant_id AND p.cart_id = c.id"
            f" AND p.attempt = c.attempt WHERE c.tenant_id = $1 AND p.{STEPS[step]}",
            shop.tenant_id,
        )
    )


async def _fill(url: str, tenant_id: UUID) -> None:
    database = Database(url, pool_size=1)
    async with database.tenant(tenant_id) as session:
        await goods(session, pieces=CARTS)
    await database.close()
