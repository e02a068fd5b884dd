"""What a template says: the text of one version, as its author gives it."""

from dataclasses import dataclass, field
from typing import Literal

Channel = Literal["email"]
Purpose = Literal["marketing", "transactional"]


@dataclass(frozen=True, slots=True)
class Text:
    """The text of one version, as given."""

    subject: str
    """Liquid."""
    body: str
    """Liquid that gives HTML."""
    text_body: str | None = None
    """Liquid that gives plain text; without it the text is taken from the HTML."""
    from_address: str | None = None
    """`Name <address>` or an address; the tenant's where there is none."""
    purpose: Purpose = "marketing"
    topic: str = "general"
    name: str | None = field(default=None, compare=False)
    """What people read; belongs to the template, not to the version."""
