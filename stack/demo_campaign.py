"""The demo's part on campaigns: a segment gets a mail, one of them reads it and buys, and the report tells."""

import re
import time
from typing import Any, Final, Protocol

from stack.demo_people import Driver

SPRING: Final[dict[str, Any]] = {
    "key": "spring_sale",
    "channel": "email",
    "name": "Spring sale",
    "subject": "{{ person.first_name | default: 'Dear friend' }}, spring is here",
    "body": "<p>Hello {{ person.first_name | default: 'there' }},</p><p>our best customers choose first: "
    '<a href="https://shop.example/spring">the spring collection</a>.</p>',
    "topic": "news",
}
CLICK: Final = re.compile(r"""href=["']([^"']+/t/c/[^"']+)["']""")


class Mailbox(Protocol):
    """What this part asks of the demo beside the API."""

    def mail(self, subject: str) -> str:
        """Wait for a mail whose subject holds this; return its HTML, empty where mail goes to an SMTP server."""
        ...

    def visit(self, address: str) -> None:
        """Follow a link of a mail, as a person's browser would."""
        ...


def prepare(driver: Driver) -> None:
    """Make the template; an earlier run's is kept."""
    driver.call("POST", "/templates", SPRING, fine=(409,))


def play(driver: Driver, mailbox: Mailbox, *, run: str, email: str) -> None:
    """Send a campaign to the top spenders, follow its link, buy, and read the report."""
    driver.tell("11. A campaign for the segment `top_spenders`, with the UTM tags of the shop.")
    template = next(each for each in driver.get("/templates", limit="200")["items"] if each["key"] == SPRING["key"])
    campaign = driver.call(
        "POST",
        "/campaigns",
        {
            "name": f"Spring sale {run}",
            "channel": "email",
            "audience": {"include": [driver.get("/segments/top_spenders")["id"]], "exclude": []},
            "template_id": template["id"],
            "rate_per_minute": 6_000,
            "utm": {"source": "throughline", "medium": "email", "campaign": "spring"},
            "cost": {"per_message": {"amount": "0.01", "currency": "EUR"}},
        },
    ).json()
    driver.call("POST", f"/campaigns/{campaign['id']}/send", {})
    driver.until("the end of the campaign", lambda: _finished(driver, campaign["id"]))
    link = CLICK.search(mailbox.mail("spring is here"))
    if link:
        time.sleep(2.5)  # quicker than any person is what a scanner is known by
        mailbox.visit(link[1].replace("&amp;", "&"))
        order = {"order_id": f"spring-{run}", "total": "60.00", "currency": "EUR"}
        driver.call("POST", "/events", {"type": "order.placed", "person": {"email": email}, "properties": order})
        driver.tell("   He follows the link and buys for 60.00 EUR.")
        driver.until("the order's credit", lambda: _credited(driver, campaign["id"]))
    report = driver.get(f"/campaigns/{campaign['id']}/report")
    driver.tell(
        f"   The report: audience {report['audience']}, excluded {report['excluded'] or 'nobody'}, sent "
        f"{report['sent']}, clicked {report['clicked']}, in doubt {report['in_doubt']}, revenue "
        f"{_money(report['revenue'])}, spend {_money(report['spend'])}."
    )


def _finished(driver: Driver, campaign_id: str) -> bool | None:
    return True if driver.get(f"/campaigns/{campaign_id}")["status"] == "finished" else None


def _credited(driver: Driver, campaign_id: str) -> bool | None:
    revenue = driver.get(f"/campaigns/{campaign_id}/report")["revenue"]
    return True if revenue and float(revenue["amount"]) > 0 else None


def _money(money: dict[str, str] | None) -> str:
    return f"{money['amount']} {money['currency']}" if money else "none"
