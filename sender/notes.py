"""Letters of channels other than mail: what a row says as a text message, a push message or a post."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from core.tokens import short_code
from integrations.texts.port import Note
from services.marketing import texts
from services.marketing.links import Marks, marked
from services.marketing.texts import TextChannel

if TYPE_CHECKING:
    from sender.letters import Text
    from services.marketing.links import Links


def write(
    row: Mapping[str, Any],
    text: "Text",
    values: Mapping[str, Any],
    links: "Links | None",
    *,
    key: bytes,
    marks: Marks = (),
) -> Note:
    """Return the note for a row.

    Args:
        row: a message, as `letters` loads it.
        text: its template version.
        values: what the template can read.
        links: of the message; None for a post, which nobody is tracked by.
        key: makes the codes of short links.
        marks: what the links of a post get, who it is from; those of others have them already.

    Raises:
        TemplateError: it cannot be rendered.
    """
    channel = cast("TextChannel", row["channel"])
    options = text.options
    short: dict[str, str] = {}

    def shorten(target: str) -> str:
        if links is None:
            return marked(target, marks)
        target = links.marked(target)
        code = short_code(key, cast("UUID", row["id"]), target)
        short[code] = target
        return f"{links.base}l/{code}"

    template = texts.compiled(channel, text.subject or None, text.body, options.get("link"), options.get("image"))
    content = texts.render(template, values, links, short=shorten)
    return Note(
        id=row["id"],
        sender="",
        recipient=row["address"] or "",
        content=b"",
        title=content.title,
        body=content.body,
        link=content.link,
        image=content.image,
        data=_texts(options.get("data")),
        marketing=text.purpose == "marketing",
        short_links=short,
        person_id=row["person_id"],
    )


def _texts(data: object) -> dict[str, str]:
    """Return what a push message tells the app: FCM takes texts alone."""
    if not isinstance(data, dict):
        return {}
    given = cast("dict[str, object]", data)
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
