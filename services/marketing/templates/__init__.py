"""Templates: named, with immutable versions. A new text is a new version; a message keeps the one it was sent with."""

from services.marketing.templates import partials
from services.marketing.templates.checking import Checked, check
from services.marketing.templates.linting import Finding, Link, dead_links, links, links_saved, lint, lint_saved
from services.marketing.templates.locales import variant_for
from services.marketing.templates.previewing import Preview, preview, preview_unsaved
from services.marketing.templates.store import (
    Saved,
    create,
    current,
    delete,
    get,
    page,
    replace,
    restore,
    text_of,
    versions,
)
from services.marketing.templates.texts import Channel, Purpose, Text, Wording
from services.marketing.templates.trying import send_copies

__all__ = [
    "Channel",
    "Checked",
    "Finding",
    "Link",
    "Preview",
    "Purpose",
    "Saved",
    "Text",
    "Wording",
    "check",
    "create",
    "current",
    "dead_links",
    "delete",
    "get",
    "links",
    "links_saved",
    "lint",
    "lint_saved",
    "page",
    "partials",
    "preview",
    "preview_unsaved",
    "replace",
    "restore",
    "send_copies",
    "text_of",
    "variant_for",
    "versions",
]
