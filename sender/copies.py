"""Letters of test copies: as somebody would get them, marked, with links that do nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from integrations.email import mime
from integrations.email.mime import Letter
from integrations.email.port import Mail
from sender import notes
from services.marketing import links, rendering, templates
from services.marketing.rendering import PERSON_FIELDS, TENANT_FIELDS
from services.marketing.test_sends import MARK, PREFIX, shown_as

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from sender.letters import Text

SHOWN: Final = "shown"
"""Of a row that is a copy: the person whose values it shows, empty for nobody's."""
SAMPLE: Final = "sample"
"""Of such a row: `entry` and `locale` that it shows in place of nothing and of the person's own."""
_SAMPLE: Final = "SELECT shown FROM message_page WHERE tenant_id = $1 AND id = $2"
_PEOPLE: Final = f"""
    SELECT {", ".join(PERSON_FIELDS)}, attributes FROM person WHERE tenant_id = $1 AND id = ANY($2::uuid[])
"""  # noqa: S608 - the names are constants of ours


async def with_people(
    connection: "PoolConnectionProxy[Any]", tenant_id: UUID, page_id: UUID, rows: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a page, those that are copies with whom they show."""
    asked = {row["id"]: shown_as(row["dedupe_key"]) for row in rows if row["dedupe_key"].startswith(PREFIX)}
    if not asked:
        return rows
    wanted = [each for each in set(asked.values()) if each is not None]
    found = {each["id"]: dict(each) for each in await connection.fetch(_PEOPLE, tenant_id, wanted)}
    sample = await connection.fetchval(_SAMPLE, tenant_id, page_id)
    shown: dict[str, Any] = {SAMPLE: json.loads(sample) if sample else {}}
    return [{**row, **shown, SHOWN: found.get(asked[row["id"]], {})} if row["id"] in asked else row for row in rows]


def write(row: Mapping[str, Any], text: "Text", *, sender: str, public_url: str, key: bytes) -> Mail:
    """Return the letter of a copy.

    Raises:
        TemplateError: it cannot be rendered.
        UnsendableError: an address is none.
    """
    own = links.of_preview(public_url)
    shown: Mapping[str, Any] = row[SHOWN]
    sample: Mapping[str, Any] = row[SAMPLE]
    attributes = shown.get("attributes")
    person: dict[str, Any] = {name: shown.get(name) for name in PERSON_FIELDS}
    values = rendering.values_of(
        person | {"attributes": json.loads(attributes) if attributes else {}},
        sample.get("entry") or {},
        {name: row[f"tenant_{name}"] for name in TENANT_FIELDS},
        own,
    )
    wording = templates.variant_for(text, sample.get("locale") or person["locale"])
    text = replace(text, subject=wording.subject or "", body=wording.body or "", text_body=wording.text_body)
    topic = {"key": text.topic, "name": text.topic, "wording": None}
    values |= {rendering.CONFIRM_URL: f"{own.base}s/preview", "topic": topic}
    if row["channel"] != "email":
        marked = replace(text, subject=MARK + text.subject) if text.subject else replace(text, body=MARK + text.body)
        return notes.write(row, marked, values, None, key=key)
    template = rendering.compiled(MARK + text.subject, text.body, text.text_body, text.purpose)
    rendered = rendering.render(template, values, own)
    return mime.compose(
        Letter(
            id=row["id"],
            sender=sender,
            recipient=row["address"],
            subject=rendered.subject,
            html=rendered.html,
            text=rendered.text,
            date=datetime.now(UTC),
        )
    )
