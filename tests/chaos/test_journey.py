"""20,000 people walk a journey while ten workers are killed, relays in them, and Temporal and Postgres once each."""

import json
import os
import random
import time
from collections import Counter
from typing import Final
from uuid import UUID

import pytest

from journeys.arms import ARM, chosen, place_of
from tests.chaos.deployment import Deployment, say
from tests.chaos.leftovers import assert_nothing_is_left
from tests.chaos.shop import Shop
from tests.chaos.walk import (
    ANSWER,
    ARMS,
    DEFINITION,
    GOAL,
    KINDS,
    SENDS,
    WITHOUT_CONSENT,
    Taken,
    expected,
    kind_of,
    path_of,
)

SCALE: Final = int(os.environ.get("CHAOS_SCALE", "4"))
"""In 5,000 people; 1 to be quick."""
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1_200)]

WAVES: Final = tuple(SCALE * size for size in (1_500, 700, 500, 400, 400, 300, 300, 300, 300, 240))
"""People enrolled by one request shortly before each kill; those left over come one by one."""
ALONE: Final = 60
PEOPLE: Final = sum(WAVES) + ALONE
TEMPORAL_FALLS_AT: Final = 4
POSTGRES_FALLS_AT: Final = 7
CONNECTIONS: Final = 20
"""Mails a sender has under way at most: what one kill may leave in doubt."""
AT_ONCE: Final = 200
"""Events and requests sent between two looks."""


class Walk:
    """The journey's people, and the world that acts on them while they walk."""

    def __init__(self, shop: Shop, chance: random.Random) -> None:
        self._shop = shop
        self._chance = chance
        self._running = shop.deployment
        self.people = shop.people(PEOPLE, without_consent=WITHOUT_CONSENT)
        self._running.fetch(
            """UPDATE person SET attributes = attributes || jsonb_build_object(
                 'kind', ($2::text[])[1 + (attributes ->> 'n')::int % cardinality($2::text[])])
               WHERE tenant_id = $1""",
            shop.tenant_id,
            list(KINDS),
        )
        for template in sorted(SENDS):
            shop.template(template)
        shop.journey("chaos", DEFINITION)
        self._entered = 0
        self._goals: list[UUID] = []
        self._leavers: list[UUID] = []
        self._answered: set[UUID] = set()

    def enter(self, count: int) -> None:
        """Let the next people in, by one request."""
        first, self._entered = self._entered, self._entered + count
        entering = self.people[first : self._entered]
        self._shop.enroll("chaos", entering, round=first % 7)
        for n, person in enumerate(entering, start=first):
            if kind_of(n) == "reaches_goal":
                self._goals.append(person)
            elif kind_of(n) == "leaver":
                self._leavers.append(person)

    def go_on(self) -> None:
        """Answer who waits for it, have some reach the goal, and take some out, wherever they are."""
        waiting = self._running.fetch(
            """SELECT w.enrollment_id, w.subject_id, e.entry ->> 'round' AS round
               FROM waiter w JOIN enrollment e ON e.tenant_id = w.tenant_id AND e.id = w.enrollment_id
               WHERE w.tenant_id = $1 AND w.node IN ('answer', 'race') AND w.matched_event_id IS NULL""",
            self._shop.tenant_id,
        )
        unasked = [row for row in waiting if row["enrollment_id"] not in self._answered][:AT_ONCE]
        if unasked:
            # of another round first: it must not end the wait
            rounds = [(int(row["round"]) + wrong, row["subject_id"]) for wrong in (1, 0) for row in unasked]
            self._shop.events(ANSWER, [(person, {"round": number}) for number, person in rounds])
            self._answered |= {row["enrollment_id"] for row in unasked}
        now = self._chance.randint(0, 50)
        reaching, self._goals = self._goals[:now], self._goals[now:]
        if reaching:
            self._shop.events(GOAL, [(person, {}) for person in reaching])
        leaving, self._leavers = self._leavers[:10], self._leavers[10:]
        for person in leaving:
            passage = self._running.count(
                "SELECT id FROM enrollment WHERE tenant_id = $1 AND subject_id = $2", self._shop.tenant_id, person
            )
            self._shop.call("POST", f"/enrollments/{passage}/exit", {"reason": "left"})

    @property
    def over(self) -> bool:
        """Whether nobody is inside, or to be acted on."""
        return not self._goals and not self._leavers and self._shop.open_passages() == 0


def test_everybody_ends_where_the_planner_says_whatever_is_killed(
    deployment: Deployment, shop: Shop, chance: random.Random
) -> None:
    walk = Walk(shop, chance)
    began = time.monotonic()

    for kill, size in enumerate(WAVES):
        walk.enter(size)
        for _ in range(ALONE // len(WAVES)):
            walk.enter(1)
        until = time.monotonic() + chance.uniform(0, 5)
        while time.monotonic() < until:
            walk.go_on()
        victim = chance.choice(deployment.workers)
        deployment.kill(victim)
        say(f"kill {kill + 1}: {victim.name}, {time.monotonic() - began:.1f} s, {shop.open_passages()} inside")
        if kill == TEMPORAL_FALLS_AT:
            say("Temporal falls")
            deployment.lose_temporal(chance.uniform(0, 3))
        if kill == POSTGRES_FALLS_AT:
            say("Postgres falls")
            deployment.lose_postgres(chance.uniform(0, 3))
        deployment.revive()
    say(f"all ten kills done after {time.monotonic() - began:.1f} s, {shop.open_passages()} inside")
    deployment.wait_for("everybody has left", lambda: walk.over, seconds=900, meanwhile=walk.go_on)
    say(f"everybody out after {time.monotonic() - began:.1f} s")

    assert_passages_are_right(shop, walk.people)
    again = deployment.count(
        "SELECT count(*) FROM enrollment_step WHERE tenant_id = $1 AND attempt > 1", shop.tenant_id
    )
    say(f"{again} steps needed more than one attempt")
    assert_messages_are_right(shop)
    assert_nothing_is_left(shop)
    say(f"all checked after {time.monotonic() - began:.1f} s")


def assert_passages_are_right(shop: Shop, people: list[UUID]) -> None:
    passages = shop.deployment.fetch(
        """
        SELECT e.journey_id, e.subject_id, e.node, e.status, e.reason, p.attributes ? 'walked' AS walked,
               (SELECT coalesce(jsonb_agg(jsonb_build_array(s.node, s.visit, s.outcome)), '[]')::text
                FROM enrollment_step s WHERE s.tenant_id = e.tenant_id AND s.enrollment_id = e.id) AS steps
        FROM enrollment e JOIN person p ON p.tenant_id = e.tenant_id AND p.id = e.subject_id
        WHERE e.tenant_id = $1
        """,
        shop.tenant_id,
    )
    assert len(passages) == len(people)
    by_person = {row["subject_id"]: row for row in passages}
    may_end = expected()
    wrong: list[str] = []
    for n, person in enumerate(people):
        row = by_person[person]
        steps = [Taken(*step) for step in json.loads(row["steps"])]
        path = path_of(row["node"], steps)
        ends = may_end[kind_of(n)]
        right = path is not None and any(end.allows(row["node"], row["status"], row["reason"], path) for end in ends)
        arms = [step.outcome for step in steps if step.node == "part"]
        right = right and arms in ([], [ARM + chosen(ARMS, place_of(row["journey_id"], person, "part"))])
        if not right or row["walked"] != any(step.node == "mark" for step in steps):
            wrong.append(f"{n} ({kind_of(n)}): {dict(row)}")
    assert not wrong, f"{len(wrong)} are wrong, such as: " + "\n".join(wrong[:10])


def assert_messages_are_right(shop: Shop) -> None:
    running = shop.deployment
    unsettled = "SELECT count(*) FROM message WHERE tenant_id = $1 AND status = 'queued'"
    running.wait_for("every message is sent", lambda: running.count(unsettled, shop.tenant_id) == 0, seconds=180)
    rows = running.fetch(
        """
        SELECT m.id, m.status, m.reason, m.dedupe_key, s.enrollment_id, s.node, s.visit,
               (p.attributes ->> 'n')::int AS n
        FROM message m
        FULL JOIN (SELECT * FROM enrollment_step WHERE tenant_id = $1 AND node = ANY($2)) s
          ON m.dedupe_key = 'journey:' || s.enrollment_id || ':' || s.node || ':' || s.visit
        LEFT JOIN enrollment e ON e.tenant_id = $1 AND e.id = s.enrollment_id
        LEFT JOIN person p ON p.tenant_id = $1 AND p.id = e.subject_id
        WHERE m.tenant_id = $1 OR m.id IS NULL
        """,
        shop.tenant_id,
        sorted(SENDS),
    )
    unmatched = [dict(row) for row in rows if row["id"] is None or row["n"] is None]
    assert not unmatched, f"{len(unmatched)} steps without a message, or messages without a step: {unmatched[:5]}"
    wrong = [
        dict(row)
        for row in rows
        if (row["status"] == "excluded") != (row["n"] % WITHOUT_CONSENT == 0)
        or row["status"] not in {"excluded", "sent", "in_doubt"}
    ]
    assert not wrong, f"{len(wrong)} messages are wrong, such as {wrong[:5]}"
    states = Counter(row["status"] for row in rows)
    say(f"{len(rows)} messages: {dict(states)}")
    kills = sum(running.kills[worker.name] for worker in running.workers)
    assert states["in_doubt"] <= CONNECTIONS * kills
    accepted = running.sink.accepted
    twice = [message for message, times in accepted.items() if times > 1]
    assert not twice, f"{len(twice)} mails were delivered twice: {twice[:5]}"
    missing = [row["id"] for row in rows if row["status"] == "sent" and not accepted[str(row["id"])]]
    assert not missing, f"{len(missing)} messages are sent, says the store, and never came: {missing[:5]}"
    known = {str(row["id"]) for row in rows if row["status"] != "excluded"}
    stray = accepted.keys() - known
    assert not stray, f"{len(stray)} mails came of no message that was to be sent"
