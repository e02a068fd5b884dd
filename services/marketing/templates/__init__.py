"""Templates: named, with immutable versions. A new text is a new version; a message keeps the one it was sent with."""

from services.marketing.templates.checking import check
from services.marketing.templates.store import Saved, create, current, get, page, preview, replace
from services.marketing.templates.texts import Channel, Purpose, Text

__all__ = ["Channel", "Purpose", "Saved", "Text", "check", "create", "current", "get", "page", "preview", "replace"]
