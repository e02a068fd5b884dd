"""The links of one message: open pixel, tracked clicks, unsubscribe and preferences."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote_plus
from uuid import UUID

from core.tokens import ConfirmRef, ConsentRef, Tokens

MAX_TRACKED: Final = 2_000
"""Characters of a target; a longer one would make an address that not every program takes, so it stays as it is."""

UTM: Final = ("source", "medium", "campaign", "term", "content")
"""Parameters that say where a visitor comes from, without `utm_`."""

_UTM_NAMES: Final = frozenset(f"utm_{name}" for name in UTM)

Marks = tuple[tuple[str, str], ...]
"""Such parameters as they stand in an address: name and written value."""


class Links:
    """Where the links of one message lead."""

    __slots__ = ("_message_id", "_person_id", "_series", "base", "pixel", "unsubscribe")

    def __init__(self, series: "Series", person_id: UUID, message_id: UUID) -> None:
        """Sign what every mail has."""
        message = message_id.bytes
        self._series = series
        self._person_id = person_id
        self._message_id = message_id
        self.base = series.base
        """What all of them begin with, so that they are not tracked themselves."""
        self.pixel: str | None = series.pixel + series.tokens.open(message)
        """Null where opens are not counted."""
        self.unsubscribe = series.unsubscribe + series.tokens.unsubscribe(person_id.bytes, message)

    @property
    def preferences(self) -> str:
        """The preference centre; signed when asked for, as few mails name it."""
        return self._series.preferences(self._person_id, self._message_id)

    def click(self, target: str) -> str:
        """Return the tracked address of a target."""
        series = self._series
        target = self.marked(target)
        if len(target) > MAX_TRACKED:
            return target
        return series.click + series.tokens.click(self._message_id.bytes, target)

    def marked(self, target: str) -> str:
        """Return a target with the campaign's parameters, as `click` leads to it."""
        marks = self._series.marks
        return marked(target, marks) if marks else target


class Series:
    """Links of messages that share tenant, channel and topic; what is theirs is worked out once."""

    __slots__ = ("_public_url", "_ref", "_signer", "base", "click", "marks", "pixel", "tokens", "unsubscribe")

    def __init__(self, ref: ConsentRef, *, tokens: Tokens, public_url: str, marks: Marks = ()) -> None:
        """Take one of the messages; what links lead to gets `marks`, see `marks_of`."""
        self._ref = ref
        self._signer = tokens
        self._public_url = public_url
        self.tokens = tokens.of_messages(ref.tenant_id, ref.channel, ref.topic)
        self.marks = marks
        self.base = f"{public_url}/t/"
        self.pixel = f"{self.base}o/"
        self.click = f"{self.base}c/"
        self.unsubscribe = f"{self.base}u/"

    def of(self, person_id: UUID, message_id: UUID) -> Links:
        """Return the links of a message."""
        return Links(self, person_id, message_id)

    def preferences(self, person_id: UUID, message_id: UUID) -> str:
        """Return the address of the preference centre that a message names."""
        ref = replace(self._ref, person_id=person_id, message_id=message_id)
        return preferences(ref, tokens=self._signer, public_url=self._public_url)


def marks_of(utm: Mapping[str, str]) -> Marks:
    """Return the parameters of a campaign, by `UTM`, as links get them."""
    return tuple((f"utm_{name}", quote(utm[name], safe="")) for name in UTM if name in utm)


@lru_cache(maxsize=10_000)
def marked(target: str, marks: Marks) -> str:
    """Return a web address with the parameters that it does not have already, before its fragment."""
    if not target[:8].lower().startswith(("http://", "https://")):
        return target
    address, sign, fragment = target.partition("#")
    path, _, query = address.partition("?")
    has = {unquote_plus(part.partition("=")[0]).lower() for part in query.split("&")}
    added = [f"{name}={value}" for name, value in marks if name not in has]
    query = "&".join([query.removesuffix("&"), *added] if query else added)
    return f"{path}?{query}{sign}{fragment}" if added else target


def unmarked(target: str) -> str:
    """Return an address without the parameters of `UTM`, so that it is the same whichever campaign it stood in."""
    address, sign, fragment = target.partition("#")
    path, _, query = address.partition("?")
    kept = [part for part in query.split("&") if unquote_plus(part.partition("=")[0]).lower() not in _UTM_NAMES]
    query = "&".join(kept)
    return f"{path}?{query}{sign}{fragment}" if query else f"{path}{sign}{fragment}"


def confirm(ref: ConfirmRef, *, tokens: Tokens, public_url: str) -> str:
    """Return the address where an opt-in is confirmed."""
    return f"{public_url}/t/s/{tokens.confirm(ref)}"


def preferences(ref: ConsentRef, *, tokens: Tokens, public_url: str) -> str:
    """Return the address of a person's preference centre."""
    return f"{public_url}/t/p/{tokens.preferences(ref)}"


class _Preview(Links):
    """Links for looking at."""

    __slots__ = ()

    def __init__(self, public_url: str) -> None:
        self.base = f"{public_url}/t/"
        self.pixel = None
        self.unsubscribe = f"{self.base}u/preview"

    @property
    def preferences(self) -> str:
        return f"{self.base}p/preview"

    def click(self, target: str) -> str:
        return target

    def marked(self, target: str) -> str:
        return target


def of_preview(public_url: str) -> Links:
    """Return links for looking at: they open nothing, and nobody is unsubscribed by trying them."""
    return _Preview(public_url)
