"""The links of one message: open pixel, tracked clicks, unsubscribe and preferences."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final
from urllib.parse import quote, unquote_plus

from core.tokens import Click, ConfirmRef, ConsentRef, MessageRef, Tokens

MAX_TRACKED: Final = 2_000
"""Characters of a target; a longer one would make an address that not every program takes, so it stays as it is."""

UTM: Final = ("source", "medium", "campaign", "term", "content")
"""Parameters that say where a visitor comes from, without `utm_`."""

Marks = tuple[tuple[str, str], ...]
"""Such parameters as they stand in an address: name and written value."""


@dataclass(frozen=True)
class Links:
    """Where the links of one message lead."""

    base: str
    """What all of them begin with, so that they are not tracked themselves."""
    pixel: str | None
    """Null where opens are not counted."""
    unsubscribe: str
    sign_preferences: Callable[[], str]
    click: Callable[[str], str]
    """Returns the tracked address of a target."""
    marked: Callable[[str], str]
    """Returns a target with the campaign's parameters, as `click` leads to it."""

    @cached_property
    def preferences(self) -> str:
        """The preference centre; signed when asked for, as few mails name it."""
        return self.sign_preferences()


def of_message(ref: ConsentRef, *, tokens: Tokens, public_url: str, marks: Marks = ()) -> Links:
    """Return the signed links of a message; what they lead to gets `marks`, see `marks_of`."""
    base = f"{public_url}/t/"

    def to(target: str) -> str:
        return marked(target, marks) if marks else target

    def click(target: str) -> str:
        target = to(target)
        if len(target) > MAX_TRACKED:
            return target
        return f"{base}c/{tokens.click(Click(ref.tenant_id, ref.message_id, target))}"

    return Links(
        base=base,
        pixel=f"{base}o/{tokens.open(MessageRef(ref.tenant_id, ref.message_id))}",
        unsubscribe=f"{base}u/{tokens.unsubscribe(ref)}",
        sign_preferences=lambda: preferences(ref, tokens=tokens, public_url=public_url),
        click=click,
        marked=to,
    )


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


def confirm(ref: ConfirmRef, *, tokens: Tokens, public_url: str) -> str:
    """Return the address where an opt-in is confirmed."""
    return f"{public_url}/t/s/{tokens.confirm(ref)}"


def preferences(ref: ConsentRef, *, tokens: Tokens, public_url: str) -> str:
    """Return the address of a person's preference centre."""
    return f"{public_url}/t/p/{tokens.preferences(ref)}"


def of_preview(public_url: str) -> Links:
    """Return links for looking at: they open nothing, and nobody is unsubscribed by trying them."""
    base = f"{public_url}/t/"
    return Links(
        base=base,
        pixel=None,
        unsubscribe=f"{base}u/preview",
        sign_preferences=lambda: f"{base}p/preview",
        click=lambda target: target,
        marked=lambda target: target,
    )
