"""What goes to people on channels other than mail: texts of a few parts, delivered one by one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from integrations.email.port import Mail


@dataclass(slots=True, kw_only=True)
class Note(Mail):
    """A text ready to go: `recipient` is a phone number, a device's token, or empty for a post; `content` is empty."""

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
    short_links: Mapping[str, str] = field(default_factory=dict[str, str])
    """Where the short addresses in it lead, by their codes."""
    person_id: UUID | None = None

    def readable(self) -> str:
        """Return it whole, as a file shows it."""
        parts = {"To": self.recipient, "Title": self.title, "Link": self.link, "Image": self.image, **self.data}
        head = "".join(f"{name}: {value}\n" for name, value in parts.items() if value)
        return f"{head}\n{self.body}\n"


class RefusedError(Exception):
    """The provider answers, and does not take the account's credentials; says so in its words."""
