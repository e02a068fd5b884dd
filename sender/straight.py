"""The fast path of letters: templates whose mails are text with holes, and runs of mails by the same one."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

import pydantic_core

from integrations.email.frame import Filling, Frame
from integrations.email.port import Mail
from services.marketing import rendering
from services.marketing.links import Links, Series
from services.marketing.rendering import PERSON_FIELDS, TENANT_FIELDS
from services.marketing.skeleton import Skeleton, filled

Row = Mapping[str, Any]

shared: Final = itemgetter(
    "channel", "template_version_id", "person_locale", "utm", "tenant_name", "tenant_postal_address", "from_address"
)
"""Returns what rows have in common, by one tenant, that go into one `Run`."""


@dataclass(frozen=True, slots=True)
class Straight:
    """A template for the fast path: its values, and the mail they go into."""

    skeleton: Skeleton
    frame: Frame
    person: Sequence[tuple[str, str]]
    """What it reads of the person, and of which column."""
    reads: frozenset[str]
    """What else it reads: the first words of its variables, and `attributes`."""

    @classmethod
    def of(cls, skeleton: Skeleton, frame: Frame) -> "Straight":
        """Find out what it reads."""
        paths = skeleton.reads
        fields = {path[1] for path in paths if path[0] == "person" and len(path) > 1}
        others = {path[0] for path in paths} | (fields & {"attributes"})
        columns = [(name, f"person_{name}") for name in PERSON_FIELDS if name in fields]
        return cls(skeleton, frame, columns, frozenset(others))

    def write(self, row: Row, own: Links, date: datetime) -> Mail | None:
        """Return the mail for a row; None where only Liquid knows how it reads.

        Raises:
            TemplateError: the subject is empty.
            UnsendableError: the recipient is no address.
        """
        found = self.skeleton.values(self._read_by(row, own), own)
        if found is None:
            return None
        subject = rendering.subject_of(filled(self.skeleton.subject, found))
        return self.frame.compose(found, Filling(row["id"], row["address"], subject, date, own.unsubscribe))

    def _read_by(self, row: Row, own: Links) -> dict[str, Any]:
        """Return what the template reads, and nothing else: most of a row is of no use to most mails."""
        person: dict[str, Any] = {name: row[column] for name, column in self.person}
        values: dict[str, Any] = {"person": person, "unsubscribe_url": own.unsubscribe}
        reads = self.reads
        if "attributes" in reads:
            attributes = row["attributes"]
            person["attributes"] = pydantic_core.from_json(attributes) if attributes else {}
        if "entry" in reads:
            values["entry"] = json.loads(row["entry"]) if row["entry"] else {}
        if "tenant" in reads:
            values["tenant"] = {name: row[f"tenant_{name}"] for name in TENANT_FIELDS}
        if "preferences_url" in reads:
            values["preferences_url"] = own.preferences
        return values


@dataclass(frozen=True, slots=True)
class Run:
    """Mails of one wording to people of one tenant: what they share was found once."""

    straight: Straight
    links: Series

    def write(self, row: Row, date: datetime) -> Mail | None:
        """Return the mail for a row; see `Straight.write`."""
        return self.straight.write(row, self.links.of(row["person_id"], row["id"]), date)


class Clock:
    """The present moment to the second, the same object all the second long."""

    def __init__(self) -> None:
        """Start now."""
        self._second = 0
        self._moment: datetime = datetime.fromtimestamp(0, UTC)

    def now(self) -> datetime:
        """Return it."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._moment = datetime.fromtimestamp(second, UTC)
        return self._moment
