"""What goes to people on channels other than mail: texts of a few parts, delivered one by one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from integrations.email.port import Mail


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Mail):
    """A text ready to go. `recipient` is a phone number or a device's token, `content` the whole as people read it."""

    title: str | None = None
    """Of a push message."""
    body: str
    link: str | None = None
    """Where a push message leads."""
    image: str | None = None
    """Address of a push message's picture."""
    data: Mapping[str, str] = field(default_factory=dict[str, str])
    """What a push message tells the app."""
    marketing: bool = False


class RefusedError(Exception):
    """The provider answers, and does not take the account's credentials; says so in its words."""
