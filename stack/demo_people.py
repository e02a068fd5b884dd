"""The demo's second half: one human under two records, found, made one, taken apart again, and one forgotten."""

from collections.abc import Callable
from typing import Any, Protocol

import httpx

RETENTION_DOMAIN = "shop.example"


class Driver(Protocol):
    """What the demo offers its parts: the public API, waiting, and telling."""

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, fine: tuple[int, ...] = ()
    ) -> httpx.Response:
        """Call a route; an answer that is neither success nor fine ends the demo."""
        ...

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """Read a route."""
        ...

    def upload(self, path: str, name: str, content: str) -> dict[str, Any]:
        """Send a file."""
        ...

    def until(self, what: str, look: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever `look` finds
        """Wait until `look` returns something."""
        ...

    def tell(self, line: str) -> None:
        """Say what happens."""
        ...


def play(driver: Driver, *, run: str, person_id: str) -> None:
    """Import a list with an old record of the person in it; find the pair, merge it, undo it, erase the old record."""
    _join_company(driver, run, person_id)
    old_id = _import_list(driver, run)
    duplicate = _find_pair(driver, person_id, old_id)
    merge = driver.call("POST", f"/people/duplicates/{duplicate['id']}/merge", {"winner_id": person_id}).json()
    met = driver.get(f"/people/{old_id}")
    driver.tell(f"   merged: {sum(merge['counts'].values())} rows moved; the old id answers with {met['email']}")
    driver.call("POST", f"/people/merges/{merge['id']}/undo")
    apart = driver.get(f"/people/{old_id}")
    driver.tell(f"   taken back: the old record is {apart['email']} again, as it was.")
    _forget(driver, old_id)


def _join_company(driver: Driver, run: str, person_id: str) -> None:
    driver.tell("8. He buys for a company.")
    company = driver.call(
        "POST",
        "/organizations",
        {
            "name": f"Acme {run}",
            "domain": f"acme-{run}.{RETENTION_DOMAIN}",
            "is_customer": True,
            "currency": "EUR",
            "credit_limit": {"amount": "5000.00", "currency": "EUR"},
            "payment_terms_days": 30,
        },
    ).json()
    link = {"person_id": person_id, "kind": "employee", "title": "Head of Purchasing", "is_primary": True}
    driver.call("POST", f"/organizations/{company['id']}/people", link)
    charge = {"kind": "charge", "amount": {"amount": "120.00", "currency": "EUR"}, "reference": f"invoice-{run}"}
    driver.call("POST", f"/organizations/{company['id']}/entries", charge)
    account = driver.get(f"/organizations/{company['id']}/account")
    person = driver.get(f"/people/{person_id}")
    driver.tell(f"   is_contact: {person['is_contact']}; the company owes {account['balance']['amount']} EUR.")


def _import_list(driver: Driver, run: str) -> str:
    driver.tell("9. Somebody imports an old list; he is on it under another address.")
    old = f"john.{run}+old@example.com"
    lines = ("Email,First name,Country", f"{old},John,NL", f"jane.{run}@example.com,Jane,NL", "nobody,Ghost,NL")
    made = driver.upload("/people/imports", "contacts.csv", "\n".join(lines) + "\n")

    def done() -> dict[str, Any] | None:
        now = driver.get(f"/people/imports/{made['id']}")
        return now if now["status"] in {"finished", "failed"} else None

    now = driver.until("the import", done)
    driver.tell(f"   import {now['status']}: {now['created']} created, {now['rejected']} rejected (the line says why).")
    return str(driver.get("/people", email=old)["items"][0]["id"])


def _find_pair(driver: Driver, person_id: str, old_id: str) -> dict[str, Any]:
    run = driver.call("POST", "/people/duplicates/runs").json()

    def done() -> dict[str, Any] | None:
        now = driver.get(f"/people/duplicates/runs/{run['id']}")
        return now if now["status"] in {"finished", "failed"} else None

    driver.until("the search for duplicates", done)

    def pair() -> dict[str, Any] | None:
        for item in driver.get("/people/duplicates", limit="200")["items"]:
            if {one["id"] for one in item["people"]} == {person_id, old_id}:
                return item
        return None

    found = driver.until("the pair", pair)
    rules = ", ".join(f"{reason['field']} {reason['rule']}" for reason in found["reasons"])
    driver.tell(f"   the search found the two: score {found['score']} ({rules})")
    return found


def _forget(driver: Driver, person_id: str) -> None:
    driver.tell("10. The old record asks to be forgotten.")
    erasure = driver.call("DELETE", f"/people/{person_id}").json()

    def done() -> dict[str, Any] | None:
        now = driver.get(f"/erasures/{erasure['id']}")
        return now if now["status"] == "finished" else None

    driver.until("the erasure", done)
    driver.tell("   erased, mail files too; what it counted for stays.")
