"""The main job, driven through the public API alone: somebody arrives, journeys act, mail goes out, the profile tells.

Run again, it makes another person; the tenant's templates and journeys are kept.
"""

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx

from stack import demo_campaign, demo_developer, demo_journeys, demo_people, demo_sales, demo_segments, demo_shop
from stack.demo_tenant import JOURNEYS, LEAD_FORM, TEMPLATES
from stack.dev import DevInfo
from stack.processes import StackError

Report = Callable[[str], None]

PATIENCE_SECONDS = 60
POLL_SECONDS = 0.1
MAILS = 4
"""Welcome, reminder, thank-you, the campaign's."""
POSTAL_ADDRESS = "Throughline Demo, Example Street 1, 1234 AB Exampleton"
WEBSITE = "https://shop.example"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
_PIXEL = re.compile(r"""src=["']([^"']+/t/o/[^"']+)["']""")


class Demo:
    """One run of the demo against a running stack; a context that closes its connections."""

    def __init__(self, info: DevInfo, report: Report) -> None:
        """Speak to the stack that `info` describes; tell each step by `report`."""
        self._info = info
        self._report = report
        self._api = httpx.Client(
            base_url=f"{info.base_url}/v1", headers={"Authorization": f"Bearer {info.api_key}"}, timeout=30
        )
        self._site = httpx.Client(
            base_url=info.base_url, headers={"Origin": WEBSITE, "User-Agent": BROWSER}, timeout=30
        )
        self._browser = str(uuid4())
        self._write_key = ""
        self._form_path = ""
        self._run = uuid4().hex[:6]
        self._email = f"john.{self._run}@example.com"
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()
        self._site.close()

    def run(self) -> dict[str, Any]:
        """Do everything once; return the final profile.

        Raises:
            StackError: the API refused something, or what should happen did not within a minute.
        """
        self._prepare_tenant()
        with demo_developer.listening(self) as shop:
            person_id = self._play(shop)
        profile: dict[str, Any] = self.until("the record of his mails", lambda: self._told_profile(person_id))
        self._report("\nThe profile, all of it from one record (of each activity just what and when):\n")
        activities = [{"type": activity["type"], "at": activity["at"]} for activity in profile["activities"]]
        self._report(_shown({**profile, "activities": activities}))
        self._say_goodbye(person_id)
        return profile

    def _play(self, shop: demo_developer.Shop) -> str:
        """Do everything once; return whom it was about."""
        self._arrive()
        person_id = self._become_lead()
        demo_sales.play(self, person_id=person_id)
        cart = self._leave_cart(person_id)
        order = self._buy(person_id, cart)
        self._retain(person_id)
        demo_segments.play(self, run=self._run, person_id=person_id)
        demo_people.play(self, run=self._run, person_id=person_id)
        demo_campaign.play(self, self, run=self._run, email=self._email)
        self.tell("12. One of the mats comes back.")
        demo_shop.give_back(self, order, person_id=person_id)
        self.tell("13. What a developer sees of all this.")
        demo_developer.show(self, shop, base_url=self._info.base_url, person_id=person_id, order_id=order["id"])
        return person_id

    def _prepare_tenant(self) -> None:
        settings = {"postal_address": POSTAL_ADDRESS, "from_address": "Demo <hello@shop.example>"}
        self.call("PATCH", "/tenant", {**settings, "allowed_origins": [WEBSITE]})
        keys = [key["key"] for key in self.get("/write-keys")["items"] if key["revoked_at"] is None]
        self._write_key = keys[0] if keys else self.call("POST", "/write-keys", {"name": "Demo shop"}).json()["key"]
        self.call("POST", "/forms", LEAD_FORM, fine=(409,))
        form = next(form for form in self.get("/forms")["items"] if form["key"] == LEAD_FORM["key"])
        self._form_path = f"/forms/{form['public_key']}"
        for template in TEMPLATES:
            self.call("POST", "/templates", template, fine=(409,))
        for key, name, definition in JOURNEYS:
            made = self.call("POST", "/journeys", {"key": key, "name": name, "definition": definition}, fine=(409,))
            if made.is_success:  # else it was made by an earlier run
                self.call("POST", f"/journeys/{key}/publish", {})
        demo_segments.prepare(self)
        demo_campaign.prepare(self)
        demo_sales.prepare(self)
        demo_shop.prepare(self)
        self.tell(
            f"Tenant ready: {len(TEMPLATES) + 1} templates, {len(JOURNEYS) + 2} journeys published, a form, a write "
            f"key, an object, {len(demo_segments.SEGMENTS)} segments, a pipeline, {len(demo_shop.PRODUCTS)} products."
        )

    def _arrive(self) -> None:
        self.tell("1. A visitor comes to the website. Its script tells of the page he sees.")
        self._visit({"type": "page.viewed", "properties": {"path": "/pricing", "utm_source": "organic"}})
        self.tell("   event page.viewed, of nobody known")

    def _become_lead(self) -> str:
        self.tell("2. He fills in the lead form and opts in to news.")
        answers = {"email": self._email, "first_name": "John", "news": "true", "tl_anonymous_id": self._browser}
        sent = self._site.post(self._form_path, data=answers, headers={"Accept": "application/json"})
        if not sent.is_success:
            raise StackError(f"the form answered {sent.status_code}: {sent.text}")
        person_id = str(self.get("/people", email=self._email)["items"][0]["id"])
        person = self.until("the lead", lambda: self._person_if(person_id, "is_lead"))
        self.tell(f"   {self._email}: is_lead: {person['is_lead']}, stage {person['lifecycle_stage']}")
        types = {item["type"] for item in self.get(f"/people/{person_id}/timeline")["items"]}
        self.tell(f"   The page he saw before is in his record: {'page.viewed' in types}")
        self.mail("Welcome")
        self.tell("   Journey `welcome` sent its mail.")
        return person_id

    def _leave_cart(self, person_id: str) -> dict[str, Any]:
        self.tell("4. He fills a cart and walks away.")
        cart = demo_shop.fill(self, person_id=person_id)
        passage = self.until("the cart's journey", lambda: self._passage("abandoned_cart", person_id))
        self.tell(f"   Journey `abandoned_cart` waits at `{passage['node']}` for this cart's order.")
        mail = self.mail("Your cart")
        self.tell("   3 seconds without an order: the reminder went out. He opens it.")
        self._open(mail)
        return cart

    def _buy(self, person_id: str, cart: dict[str, Any]) -> dict[str, Any]:
        self.tell("5. He buys after all.")
        order = demo_shop.check_out(self, cart)
        passage = self.until("the goal", lambda: self._ended("abandoned_cart", person_id))
        self.tell(f"   `abandoned_cart` {passage['status']}: {passage['reason']}.")
        demo_journeys.explain(self, person_id=person_id)
        person = self.until("the customer", lambda: self._person_if(person_id, "is_customer"))
        self.tell(f"   is_customer: {person['is_customer']}, stage {person['lifecycle_stage']}")
        return order

    def _retain(self, person_id: str) -> None:
        self.tell("6. Marketing enrolls him in `customer_retention`.")
        demo_journeys.foretell(self, person_id=person_id)
        done = self.call("POST", "/journeys/customer_retention/enrollments", {"person_id": person_id}).json()
        self.tell(f"   enrolled: {done['enrolled']}")
        self.mail("Thank you")
        self.tell("   The thank-you mail is out; the journey waits 30 days for the next order, restart or not.")

    def _say_goodbye(self, person_id: str) -> None:
        base, key = self._info.base_url, self._info.api_key
        seconds = time.monotonic() - self._began
        self._report(
            f"\nDone in {seconds:.1f} s, and everything is still running.\n"
            f"  Temporal UI  {self._info.temporal_ui_url or 'of your server'}\n"
            f"  Mail         {self._info.mail_dir or 'at your SMTP server'}\n"
            f"  API          {base}/v1/docs\n"
            "\nTry:\n"
            f"  curl -s {base}/v1/people/{person_id}/timeline -H 'Authorization: Bearer {key}'\n"
            f"  curl -s {base}/v1/journeys/abandoned_cart/stats -H 'Authorization: Bearer {key}'\n"
            f"  curl -s {base}/v1/events -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' "
            f"""-d '{{"type": "order.placed", "person": {{"email": "{self._email}"}}, """
            """"properties": {"total": "25.00", "currency": "EUR"}}'\n"""
            "\nStop it with: .venv/bin/throughline down"
        )

    # -- The API --

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, fine: tuple[int, ...] = ()
    ) -> httpx.Response:
        """Call a route; an answer that is neither success nor fine ends the demo."""
        answer = self._api.request(method, path, json=body)
        if not answer.is_success and answer.status_code not in fine:
            raise StackError(f"{method} {path} answered {answer.status_code}: {answer.text}")
        return answer

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """Read a route."""
        answer = self._api.get(path, params=parameters)
        if not answer.is_success:
            raise StackError(f"GET {path} answered {answer.status_code}: {answer.text}")
        return answer.json()

    def upload(self, path: str, name: str, content: str) -> dict[str, Any]:
        """Send a file of people, and have it imported."""
        answer = self._api.post(path, files={"file": (name, content)}, data={"start": "true"})
        if not answer.is_success:
            raise StackError(f"POST {path} answered {answer.status_code}: {answer.text}")
        return answer.json()

    def _visit(self, event: dict[str, Any]) -> None:
        """Send what the visitor does, as the website's script would."""
        body = {"key": self._write_key, "anonymous_id": self._browser, "events": [event]}
        answer = self._site.post("/t/e", json=body)
        if not answer.is_success or answer.json()["accepted"] != 1:
            raise StackError(f"POST /t/e answered {answer.status_code}: {answer.text}")

    # -- Waiting for what should happen --

    def _person_if(self, person_id: str, flag: str) -> dict[str, Any] | None:
        person = self.get(f"/people/{person_id}")
        return person if person[flag] else None

    def _told_profile(self, person_id: str) -> dict[str, Any] | None:
        """The profile, once it tells of all four mails: a mail is there a moment before its record."""
        profile = self.get(f"/people/{person_id}/profile")
        return profile if profile["campaigns"]["email_engagement"]["sent"] == MAILS else None

    def _passage(self, journey: str, person_id: str) -> dict[str, Any] | None:
        passages = self.get(f"/journeys/{journey}/enrollments", person_id=person_id)["items"]
        return passages[-1] if passages else None

    def _ended(self, journey: str, person_id: str) -> dict[str, Any] | None:
        passage = self._passage(journey, person_id)
        return passage if passage and passage["ended_at"] else None

    def mail(self, subject: str) -> str:
        """Wait for a mail to him whose subject holds this; return its HTML, empty where mail goes to an SMTP server."""
        if self._info.mail_dir is None:
            return ""
        folder = Path(self._info.mail_dir)

        def found() -> str | None:
            for path in folder.rglob("*.eml"):
                with suppress(OSError):
                    message = message_from_bytes(path.read_bytes(), policy=policy.default)
                    if self._email in str(message["To"]) and subject in str(message["Subject"]):
                        body = message.get_body(("html",))
                        return body.get_content() if body else ""
            return None

        return self.until(f"the mail {subject!r}", found)

    def _open(self, html: str) -> None:
        pixel = _PIXEL.search(html)
        if pixel:
            self.visit(pixel.group(1).replace("&amp;", "&"))

    def visit(self, address: str) -> None:
        """Follow a link of a mail, or load its picture, as a person's mail program does, and go no further."""
        # what calls itself a program is no person
        answer = httpx.get(address, headers={"User-Agent": BROWSER}, timeout=10)
        if answer.is_error:
            raise StackError(f"a link of a mail answered {answer.status_code}")

    def until(self, what: str, look: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever `look` finds
        """Wait until `look` returns something, a minute at most."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := look()) is None:
            if time.monotonic() > deadline:
                raise StackError(f"{what} did not come within {PATIENCE_SECONDS} s; the logs are in .cache/data")
            time.sleep(POLL_SECONDS)
        return found

    def tell(self, line: str) -> None:
        """Say what happens, and when."""
        self._report(f"{time.monotonic() - self._began:6.1f} s  {line}")


def _shown(profile: dict[str, Any]) -> str:
    """The profile as JSON, an activity a line."""
    return re.sub(r'\{\s+("type": "[^"]+",)\s+("at": "[^"]+")\s+\}', r"{\1 \2}", json.dumps(profile, indent=2))
