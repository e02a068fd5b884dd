"""All is lost but a dump of Postgres: restored into another cluster beside an empty Temporal, everything goes on."""

import tempfile
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.hook import Hook
from tests.chaos.mail_sink import MailSink
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

PEOPLE: Final = 40
WAITING: Final = 20
"""Of them, those in the journey."""
RATE_PER_MINUTE: Final = 120
AHEAD: Final = timedelta(seconds=30)
"""When the scheduled campaign is due, after the disaster."""
ANSWERED: Final = "quiz.answered"
SHELF: Final = "shelf.seen"

DEFINITION: Final[dict[str, Any]] = {
    "entry": {"api": True},
    "start": "hello",
    "nodes": {
        "hello": {"type": "send", "channel": "email", "template": "hello", "next": "nap"},
        "nap": {"type": "wait", "for": "PT8S", "next": "offer"},
        "offer": {"type": "send", "channel": "email", "template": "offer", "next": "answer"},
        "answer": {
            "type": "wait_for_event",
            "event": ANSWERED,
            "timeout": "PT2H",
            "matched": "thanks",
            "timed_out": "done",
        },
        "thanks": {"type": "send", "channel": "email", "template": "thanks", "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
}


@contextmanager
def running(sink: MailSink, dump: Path | None = None) -> Generator[Deployment]:
    with (
        tempfile.TemporaryDirectory(prefix="throughline-chaos-") as folder,
        Deployment(Path(folder), sink, workers=1, dump=dump) as deployment,
    ):
        try:
            yield deployment
        except BaseException:
            for title, text in deployment.log_tails():
                say(f"{title}:\n{text}")
            raise


def campaign(shop: Shop, name: str, segment: str, template: str, **more: Any) -> str:  # noqa: ANN401 - JSON
    audience = {"include": [segment], "exclude": []}
    body = {"name": name, "channel": "email", "audience": audience, "template_id": template, **more}
    return shop.call("POST", "/campaigns", body, key=uuid4().hex)["id"]


def sent(shop: Shop) -> Counter[str]:
    """What the store says was sent, by the key of its template."""
    rows = shop.deployment.fetch(
        """
        SELECT t.key, count(*) AS number FROM message AS m
        JOIN template_version AS v ON v.tenant_id = m.tenant_id AND v.id = m.template_version_id
        JOIN template AS t ON t.tenant_id = v.tenant_id AND t.id = v.template_id
        WHERE m.tenant_id = $1 AND m.status = 'sent' GROUP BY t.key
        """,
        shop.tenant_id,
    )
    return Counter({row["key"]: row["number"] for row in rows})


def test_a_dump_and_an_empty_temporal_are_enough_to_go_on() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="throughline-dump-") as folder,
        MailSink() as sink,
        Hook() as hook,
    ):
        dump = Path(folder) / "dump"
        with running(sink) as before:
            shop = Shop(before)
            people, slow = begun(shop, hook)
            at_the_disaster = sent(shop)
            tenant_id, secret = shop.tenant_id, shop.secret
            shop.close()
            before.dump(dump)
            told = set(hook.calls)
        say(f"lost, with {dict(at_the_disaster)} sent and {len(told)} calls made")
        assert 0 < at_the_disaster["slow"] < PEOPLE
        with running(sink, dump) as after:
            shop = Shop(after, (tenant_id, secret))
            went_on(shop, hook, people, slow, told)
            shop.close()
        assert set(sink.accepted.values()) == {1}, "mail was sent twice"
        assert set(hook.calls.values()) == {1}, "a call was made twice"


def begun(shop: Shop, hook: Hook) -> tuple[list[UUID], str]:
    """Have a journey, campaigns and a webhook in the middle of their work; who there is, and the campaign under way."""
    deployment = shop.deployment
    people = shop.people(PEOPLE)
    for key in ("hello", "offer", "thanks"):
        shop.template(key)
    slow, later = shop.template("slow"), shop.template("later")
    segment = shop.call("POST", "/segments", {"key": "all", "name": "All", "kind": "static"}, key=uuid4().hex)["id"]
    shop.call("POST", f"/segments/{segment}/members", {"person_ids": [str(each) for each in people]}, key=uuid4().hex)
    shop.call("POST", "/webhooks", {"url": hook.url, "event_types": ["shelf.*"]}, key=uuid4().hex)
    shop.events(SHELF, [(people[0], {"n": 0})])
    deployment.wait_for("the hook was called", lambda: len(hook.calls) == 1, seconds=30)

    scheduled = campaign(shop, "Later", segment, later)
    due = {"at": (datetime.now(UTC) + AHEAD).isoformat()}
    shop.call("POST", f"/campaigns/{scheduled}/schedule", {"schedule": due}, key=uuid4().hex)
    limited = campaign(shop, "Slow", segment, slow, rate_per_minute=RATE_PER_MINUTE)
    shop.call("POST", f"/campaigns/{limited}/send", {}, key=uuid4().hex)
    shop.journey("walk", DEFINITION)
    shop.enroll("walk", people[:WAITING])
    deployment.wait_for("all were greeted", lambda: sent(shop)["hello"] == WAITING, seconds=30)
    deployment.wait_for("some of the slow ones went", lambda: sent(shop)["slow"] > 0, seconds=30)
    deployment.workers[0].stop()  # what comes now is told by nobody any more
    shop.events(SHELF, [(people[1], {"n": 1})])
    # Runs of less than two minutes are not looked after; a real restore takes longer than this test's.
    deployment.fetch("UPDATE cohort SET started_at = started_at - interval '5 minutes'")
    return people, limited


def went_on(shop: Shop, hook: Hook, people: list[UUID], limited: str, told: set[str]) -> None:
    deployment = shop.deployment
    began = time.monotonic()
    deployment.wait_for("the hook is told what was owed", lambda: len(hook.calls) == len(told) + 1, seconds=60)
    deployment.wait_for("the slow campaign has ended", lambda: sent(shop)["slow"] == PEOPLE, seconds=60)
    deployment.wait_for("the scheduled one was sent", lambda: sent(shop)["later"] == PEOPLE, seconds=60)
    deployment.wait_for("the journey went on", lambda: sent(shop)["offer"] == WAITING, seconds=90)
    say(f"all went on within {time.monotonic() - began:.1f} s")
    shop.events(ANSWERED, [(person, {}) for person in people[:WAITING]])
    deployment.wait_for("everybody has left the journey", lambda: shop.open_passages() == 0, seconds=60)
    shop.events(SHELF, [(people[2], {"n": 2})])
    deployment.wait_for("the hook hears the next", lambda: len(hook.calls) == len(told) + 2, seconds=30)
    asked = f"/campaigns/{limited}"
    deployment.wait_for("it is finished", lambda: shop.call("GET", asked)["status"] == "finished", seconds=30)
    wanted = {"hello": WAITING, "offer": WAITING, "thanks": WAITING, "slow": PEOPLE, "later": PEOPLE}
    deployment.wait_for("all is sent", lambda: sent(shop) == wanted, seconds=30)
    assert deployment.count("SELECT count(*) FROM message WHERE tenant_id = $1", shop.tenant_id) == sum(wanted.values())
