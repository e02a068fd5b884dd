"""A campaign of 50,000 while workers are killed and Postgres falls: nobody is forgotten, nobody gets two."""

import random
import time
from collections import Counter
from typing import Final
from uuid import uuid4

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.shop import Shop

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

PEOPLE: Final = 50_000
WITHOUT_CONSENT: Final = 50
"""Every so-manieth."""
KILLS: Final = 20
POSTGRES_FALLS_AT: Final = (6, 13)
RATE_PER_MINUTE: Final = 60_000
"""So that twenty kills fall into the campaign's course."""
CONNECTIONS: Final = 20
"""Of one sender at most: what one kill may leave in doubt."""
IN_ITS_COURSE: Final = 15
"""So many kills come while mails go out, at least; what kills a sender that does nothing proves nothing."""


def test_a_campaign_reaches_everybody_once_whatever_is_killed(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    shop.people(PEOPLE, without_consent=WITHOUT_CONSENT)
    deployment.fetch(
        """
        WITH made AS (
          INSERT INTO segment (tenant_id, id, key, name, kind) VALUES ($1, $2, 'everybody', 'Everybody', 'static')
        )
        INSERT INTO segment_member (tenant_id, segment_id, person_id, source)
        SELECT $1, $2, id, 'manual' FROM person WHERE tenant_id = $1
        """,
        shop.tenant_id,
        segment := uuid4(),
    )
    template = shop.template("chaos")
    body = {
        "name": "Chaos",
        "channel": "email",
        "audience": {"include": [str(segment)], "exclude": []},
        "template_id": template,
        "rate_per_minute": RATE_PER_MINUTE,
    }
    campaign = shop.call("POST", "/campaigns", body, key=uuid4().hex)["id"]
    shop.call("POST", f"/campaigns/{campaign}/send", {}, key=uuid4().hex)
    began = time.monotonic()
    open_then = 0
    in_its_course = 0

    for kill in range(KILLS):
        time.sleep(chance.uniform(0.2, 2.5))  # the kills come when they come
        victim = chance.choice(deployment.workers)
        in_its_course += 0 < len(deployment.sink.accepted) < PEOPLE - PEOPLE // WITHOUT_CONSENT
        open_then += len(deployment.sink.open)
        deployment.kill(victim)
        say(f"kill {kill + 1}: {victim.name}, {time.monotonic() - began:.1f} s, {len(deployment.sink.accepted)} mails")
        if kill in POSTGRES_FALLS_AT:
            say("Postgres falls")
            deployment.lose_postgres(chance.uniform(0, 2))
        deployment.revive()
    say(f"all kills done after {time.monotonic() - began:.1f} s")
    deployment.wait_for(
        "the campaign has finished",
        lambda: (
            deployment.fetch("SELECT status FROM campaign_run WHERE tenant_id = $1", shop.tenant_id)[0]["status"]
            == "finished"
        ),
        seconds=300,
    )
    say(f"finished after {time.monotonic() - began:.1f} s")
    assert in_its_course >= IN_ITS_COURSE
    assert_everybody_has_a_final_state(shop, open_then)
    assert_nobody_got_two(shop)
    report = shop.call("GET", f"/campaigns/{campaign}/report")
    assert report["audience"] == PEOPLE
    assert report["excluded"] == {"no_consent": PEOPLE // WITHOUT_CONSENT}
    assert report["queued"] == 0
    assert report["sent"] + report["in_doubt"] + report["failed"] == PEOPLE - PEOPLE // WITHOUT_CONSENT


def assert_everybody_has_a_final_state(shop: Shop, open_then: int) -> None:
    running = shop.deployment
    states = Counter(
        {
            row["status"]: row["number"]
            for row in running.fetch(
                "SELECT status, count(*) AS number FROM message WHERE tenant_id = $1 GROUP BY status", shop.tenant_id
            )
        }
    )
    say(f"messages: {dict(states)}")
    without = running.count(
        """
        SELECT count(*) FROM person AS p WHERE tenant_id = $1 AND (
          SELECT count(*) FROM message WHERE tenant_id = $1 AND person_id = p.id AND status = ANY($2)) <> 1
        """,
        shop.tenant_id,
        ["excluded", "sent", "in_doubt"],
    )
    assert (without, states.total()) == (0, PEOPLE)
    assert set(states) <= {"excluded", "sent", "in_doubt"}
    kills = sum(running.kills[worker.name] for worker in running.workers)
    say(f"{open_then} connections were open when something was killed")
    assert states["in_doubt"] <= min(open_then, CONNECTIONS * kills)


def assert_nobody_got_two(shop: Shop) -> None:
    running = shop.deployment
    rows = running.fetch("SELECT id, status FROM message WHERE tenant_id = $1", shop.tenant_id)
    accepted = running.sink.accepted
    twice = [row["id"] for row in rows if accepted[str(row["id"])] > 1]
    assert not twice, f"{len(twice)} mails were delivered twice: {twice[:5]}"
    missing = [row["id"] for row in rows if row["status"] == "sent" and not accepted[str(row["id"])]]
    assert not missing, f"{len(missing)} messages are sent, says the store, and never came: {missing[:5]}"
    stray = [row["id"] for row in rows if row["status"] == "excluded" and accepted[str(row["id"])]]
    assert not stray, f"{len(stray)} mails came that were not to be sent: {stray[:5]}"
