"""Whole campaigns against mail servers that misbehave: each recipient ends where the server left them, none twice.

By the API, with a real worker, the starter of workflows, a sender, and a server that counts what it took.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import pytest

from tests.factories.bad_mail import DROP, HANG, BadServer, listening
from tests.factories.offices import SHORT_DAY, Office, once

PEOPLE: Final = 40
AWAITED: Final = 1.5
"""Seconds that an answer is awaited for where one never comes."""


@dataclass
class Story:
    """What a server does to whom."""

    people: Sequence[UUID]
    server: BadServer
    ends: dict[UUID, tuple[str, str]] = field(default_factory=dict[UUID, tuple[str, str]])
    """Of those who end otherwise than sent: status, and words of the reason."""
    refused: dict[UUID, int] = field(default_factory=dict[UUID, int])
    """How often somebody is refused for now before the mail is taken."""
    not_kept: set[UUID] = field(default_factory=set[UUID])
    """Those whose mail the server does not have."""
    _next: int = 2

    def somebody(self) -> tuple[UUID, str]:
        """Return the next who has a part in it, and their address; others stand between."""
        person = self.people[self._next]
        self._next += 3
        return person, f"{person}@example.com"

    def sent_in_the_end(self, *, refused: int = 0) -> str:
        """Return the address of one who gets it in the end."""
        person, address = self.somebody()
        self.refused[person] = refused
        return address

    def ends_as(self, status: str, words: str, *, kept: bool = False) -> str:
        """Return the address of one who ends so."""
        person, address = self.somebody()
        self.ends[person] = (status, words)
        if not kept:
            self.not_kept.add(person)
        return address


def refusals(story: Story) -> None:
    """421, 450, 451, 550 and 554, to the recipient and to the mail."""
    server = story.server
    server.rcpt[story.sent_in_the_end(refused=1)] = ["421 4.3.2 shutting down"]
    server.rcpt[story.sent_in_the_end(refused=2)] = ["450 4.2.1 busy", "451 4.7.1 greylisted"]
    server.rcpt[story.ends_as("failed", "550 5.7.1 we do not want it")] = ["550 5.7.1 we do not want it"]
    server.dot[story.sent_in_the_end(refused=1)] = ["421 4.3.0 no room"]
    server.dot[story.sent_in_the_end(refused=3)] = ["451 4.3.0 not now"] * 3
    server.dot[story.sent_in_the_end(refused=1)] = ["450 4.2.0 locked"]
    server.dot[story.ends_as("failed", "550 5.7.0 looks like spam")] = ["550 5.7.0 looks like spam"]
    server.dot[story.ends_as("failed", "554 5.6.0 bad content")] = ["554 5.6.0 bad content"]


def losses(story: Story) -> None:
    """421 at the door and to MAIL, and connections that end within the mail, and between its dot and the answer."""
    server = story.server
    server.greeting += ["421 4.3.2 come back later", DROP, "554 5.3.2 nobody here", "421 4.3.2 come back later"]
    server.mail += ["421 4.3.2 shutting down", DROP, "451 4.3.0 not now"]
    server.rcpt[story.sent_in_the_end(refused=1)] = [DROP]
    # Its dot was written with it, so that nobody can say how much of it the server has.
    server.content[story.ends_as("in_doubt", "no answer to the mail")] = [DROP]
    server.dot[story.ends_as("in_doubt", "no answer to the mail")] = [DROP]
    server.kept_then[story.ends_as("in_doubt", "no answer to the mail", kept=True)] = [DROP]


def silences(story: Story) -> None:
    """No greeting, no answer to MAIL, none to the recipient, none to the mail."""
    server = story.server
    server.greeting += [HANG, HANG]
    server.mail += [HANG]
    server.rcpt[story.sent_in_the_end(refused=1)] = [HANG]
    server.dot[story.ends_as("in_doubt", "no answer within 1.5 s")] = [HANG]
    server.kept_then[story.ends_as("in_doubt", "no answer within 1.5 s", kept=True)] = [HANG]


def nonsense(story: Story) -> None:
    """What is no SMTP, before and after the dot."""
    server = story.server
    server.greeting += ["HTTP/1.1 400 Bad Request"]
    server.rcpt[story.sent_in_the_end(refused=1)] = ["what?"]
    server.kept_then[story.ends_as("in_doubt", "does not answer in SMTP", kept=True)] = ["what?"]


SERVERS: Final[dict[str, Callable[[], BadServer]]] = {
    "pipelining": BadServer,
    "one at a time": lambda: BadServer(extensions=("8BITMIME",)),
    "no EHLO": lambda: BadServer(knows_ehlo=False),
}


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("what", [refusals, losses, silences, nonsense])
async def test_each_recipient_ends_where_the_server_left_them(
    office: Office, what: Callable[[Story], None], kind: str
) -> None:
    people = await office.desk.marketing.people(PEOPLE)
    story = Story(people, SERVERS[kind]())
    what(story)
    campaign = await office.campaign(people)
    async with (
        listening(story.server) as server,
        office.running(server.url, answers_within=AWAITED if what is silences else 20.0),
    ):
        await office.do(campaign, "send")
        await office.until(campaign, "finished")
        await assert_told(office, campaign, story)


async def assert_told(office: Office, campaign: str, story: Story) -> None:
    told = await office.told()
    for person, (status, words) in story.ends.items():
        assert told[person][0] == status
        assert words in (told[person][1] or "")
    others = [told[person] for person in story.people if person not in story.ends]
    assert Counter(others) == {("sent", None): len(others)}
    assert story.server.accepted == once([person for person in story.people if person not in story.not_kept])
    for person, times in story.refused.items():
        assert story.server.offered[f"{person}@example.com"] > times
    ends = Counter(status for status, _ in story.ends.values())
    assert await office.counts(campaign) == dict(ends) | {"sent": len(others)}


@pytest.mark.parametrize(
    "server",
    [
        BadServer(drips=True),
        BadServer(drips=True, extensions=("8BITMIME",)),
        BadServer(mails_a_connection=3),
        BadServer(mails_a_connection=1, extensions=("8BITMIME",)),
    ],
    ids=["drips", "drips one at a time", "three mails a connection", "one mail a connection"],
)
async def test_a_slow_server_and_one_that_ends_connections_get_all(office: Office, server: BadServer) -> None:
    people = await office.desk.marketing.people(PEOPLE)
    campaign = await office.campaign(people)
    async with listening(server), office.running(server.url):
        await office.do(campaign, "send")
        await office.until(campaign, "finished")
    assert server.accepted == once(people)
    assert await office.counts(campaign) == {"sent": PEOPLE}


async def test_what_is_refused_for_a_day_has_failed_with_the_server_s_words(office: Office) -> None:
    """The waits of a day are made short; there are as many of them."""
    people = await office.desk.marketing.people(5)
    server = BadServer()
    server.rcpt[f"{people[1]}@example.com"] = ["450 4.2.1 mailbox busy"] * 100
    tries = next(number for number in range(100) if SHORT_DAY.gives_up(number)) + 1
    campaign = await office.campaign(people)
    async with listening(server), office.running(server.url, policy=SHORT_DAY):
        await office.do(campaign, "send")
        await office.until(campaign, "finished")
    assert await office.counts(campaign) == {"sent": 4, "failed": 1}
    assert (await office.told())[people[1]] == ("failed", "gave up: 450 4.2.1 mailbox busy")
    assert server.offered[f"{people[1]}@example.com"] == tries > 3
    assert server.accepted == once([*people[:1], *people[2:]])
