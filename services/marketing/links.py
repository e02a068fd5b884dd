"""The links of one message: open pixel, tracked clicks, unsubscribe and preferences."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from core.tokens import Click, ConfirmRef, ConsentRef, MessageRef, Tokens

MAX_TRACKED: Final = 2_000
"""Characters of a target; a longer one would make an address that not every program takes, so it stays as it is."""


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

    @cached_property
    def preferences(self) -> str:
        """The preference centre; signed when asked for, as few mails name it."""
        return self.sign_preferences()


def of_message(ref: ConsentRef, *, tokens: Tokens, public_url: str) -> Links:
    """Return the signed links of a message."""
    base = f"{public_url}/t/"

    def click(target: str) -> str:
        if len(target) > MAX_TRACKED:
            return target
        return f"{base}c/{tokens.click(Click(ref.tenant_id, ref.message_id, target))}"

    return Links(
        base=base,
        pixel=f"{base}o/{tokens.open(MessageRef(ref.tenant_id, ref.message_id))}",
        unsubscribe=f"{base}u/{tokens.unsubscribe(ref)}",
        sign_preferences=lambda: preferences(ref, tokens=tokens, public_url=public_url),
        click=click,
    )


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
    )
