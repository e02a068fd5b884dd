"""What a template says: the text of one version, as its author gives it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from services.marketing.templates.html import Format

Channel = Literal["email", "sms", "push", "social"]
Purpose = Literal["marketing", "transactional"]

FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "email": frozenset(("subject", "text_body", "from", "format")),
    "sms": frozenset(),
    "push": frozenset(("subject", "link", "image")),
    "social": frozenset(),
}
"""What a channel has beside the body; the subject of a push message is its title."""
NAMED: Final[Mapping[str, Mapping[str, str]]] = {"push": {"subject": "title"}}
"""What fields are called on a channel, where it is not their own name."""
MAX_BODY: Final[Mapping[str, int]] = {"sms": 10_000, "push": 10_000, "social": 10_000}
"""Characters of Liquid; what it gives is held to the channel's own limit when it is sent."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What is said in one language."""

    subject: str | None = None
    """Liquid; the title of a push message."""
    body: str | None = None
    """Liquid that gives HTML, or MJML, for mail; plain text for the other channels."""
    text_body: str | None = None
    """Liquid that gives plain text; without it the text is taken from the HTML."""


@dataclass(frozen=True, slots=True)
class Text:
    """The text of one version, as given."""

    subject: str | None
    """As of `Wording`; None on channels that have none."""
    body: str
    """As of `Wording`."""
    text_body: str | None = None
    format: Format | None = None
    """What the body of mail is written in; HTML where nothing is said."""
    from_address: str | None = None
    """`Name <address>` or an address; the tenant's where there is none."""
    link: str | None = None
    """Liquid: where a push message leads."""
    image: str | None = None
    """Liquid: the address of a push message's picture."""
    purpose: Purpose = "marketing"
    topic: str = "general"
    locales: Mapping[str, Wording] = field(default_factory=dict[str, Wording])
    """What people of a locale get instead; what is missing stays as it is."""
    name: str | None = field(default=None, compare=False)
    """What people read; belongs to the template, not to the version."""
