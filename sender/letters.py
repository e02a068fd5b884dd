"""From a page's rows to letters: who still may get it, and what each says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formataddr
from typing import Any, Final
from uuid import UUID

from core.address_hashes import AddressHashes
from core.database import Database
from core.settings import Settings
from core.tokens import ConsentRef, Tokens
from integrations.email import mime
from integrations.email.mime import Letter
from integrations.email.port import Mail
from sender.results import Result
from services.marketing import links, rendering
from services.marketing.rendering import PERSON_FIELDS, TENANT_FIELDS
from services.marketing.templating import TemplateError

_CACHED_TEMPLATES: Final = 1_000

# Looked up by key for each message, whatever the statistics say; see `services.marketing.queueing`.
_LOAD: Final = f"""
    SELECT m.id, m.address, m.channel, m.template_version_id, m.person_id,
           {", ".join(f"p.{name} AS person_{name}" for name in PERSON_FIELDS)}, p.attributes, e.entry,
           {", ".join(f"tenant.{name} AS tenant_{name}" for name in TENANT_FIELDS)}, tenant.from_address,
           s.reason AS suppressed, c.status AS consent
    FROM message AS m
    JOIN tenant ON tenant.id = $1
    CROSS JOIN LATERAL (SELECT * FROM person WHERE tenant_id = $1 AND id = m.person_id LIMIT 1) AS p
    CROSS JOIN LATERAL (
        SELECT topic FROM template_version WHERE tenant_id = $1 AND id = m.template_version_id LIMIT 1) AS v
    LEFT JOIN LATERAL (
        SELECT entry FROM enrollment WHERE tenant_id = $1 AND id = m.enrollment_id LIMIT 1) AS e ON true
    LEFT JOIN LATERAL (
        SELECT reason FROM suppression
        WHERE tenant_id = $1 AND channel = m.channel AND address = m.address LIMIT 1) AS s ON true
    LEFT JOIN LATERAL (
        SELECT status FROM consent
        WHERE tenant_id = $1 AND person_id = m.person_id AND channel = m.channel AND topic = v.topic LIMIT 1
    ) AS c ON true
    WHERE m.tenant_id = $1 AND m.page_id = $2 AND m.status = 'queued'
    ORDER BY m.id
"""  # noqa: S608 - the names are constants of ours
_TEMPLATES: Final = """
    SELECT id, subject, body, text_body, from_address, purpose, topic
    FROM template_version WHERE tenant_id = $1 AND id = ANY($2::uuid[])
"""
# Addresses of people who were erased are known by their hashes alone; whoever has one now may be somebody else.
_HASHED: Final = """
    SELECT hash, reason FROM suppression_hash WHERE tenant_id = $1 AND channel = $2 AND hash = ANY($3::bytea[])
"""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """A template version as stored."""

    subject: str
    body: str
    text_body: str | None
    from_address: str | None
    purpose: str
    topic: str


class Letters:
    """Reads pages and writes letters; keeps the template versions it has seen, which never change."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """Take where to read from, and how links look."""
        self._database = database
        self._tokens = Tokens(settings.secret_key.get_secret_value())
        self._hashes = AddressHashes(settings.secret_key.get_secret_value())
        self._public_url = settings.public_url.rstrip("/")
        self._mail_from = settings.mail_from
        self._texts: dict[tuple[UUID, UUID], Text] = {}

    async def load(self, tenant_id: UUID, page_id: UUID) -> list[Row]:
        """Return the messages of a page that are still queued, with all that their letters need."""
        async with self._database.hot(tenant_id) as connection:
            rows: Sequence[Row] = await connection.fetch(_LOAD, tenant_id, page_id)
            wanted = {row["template_version_id"] for row in rows}
            missing = [each for each in wanted if (tenant_id, each) not in self._texts]
            if missing:
                for found in await connection.fetch(_TEMPLATES, tenant_id, missing):
                    self._remember((tenant_id, found["id"]), found)
            hashes = [self._hashes.of(tenant_id, row["channel"], row["address"]) for row in rows]
            suppressed: dict[bytes, str] = {}
            if rows:  # all of one channel, as a page is
                found = await connection.fetch(_HASHED, tenant_id, rows[0]["channel"], hashes)
                suppressed = {row["hash"]: row["reason"] for row in found}
        return [
            row if reason is None else {**row, "suppressed": reason}
            for row, reason in zip(rows, map(suppressed.get, hashes), strict=True)
        ]

    def _remember(self, key: tuple[UUID, UUID], found: Row) -> None:
        while len(self._texts) >= _CACHED_TEMPLATES:
            del self._texts[next(iter(self._texts))]
        self._texts[key] = Text(
            subject=found["subject"] or "",
            body=found["body"],
            text_body=found["text_body"],
            from_address=found["from_address"],
            purpose=found["purpose"],
            topic=found["topic"],
        )

    def write(self, tenant_id: UUID, row: Row) -> Mail | Result:
        """Return the mail for a row, or why there is none: since it was queued the person may have opted out."""
        text = self._texts[tenant_id, row["template_version_id"]]
        reason = _excluded(text, row)
        if reason is not None:
            return Result(row["id"], "excluded", reason)
        try:
            return self._mail(tenant_id, row, text)
        except TemplateError as error:
            return Result(row["id"], "failed", f"template: {error}")
        except mime.UnsendableError as error:
            return Result(row["id"], "failed", f"address: {error}")

    def _mail(self, tenant_id: UUID, row: Row, text: Text) -> Mail:
        ref = ConsentRef(tenant_id, row["person_id"], row["id"], row["channel"], text.topic)
        own = links.of_message(ref, tokens=self._tokens, public_url=self._public_url)
        values = rendering.values_of(
            {"attributes": _json(row["attributes"]), **{name: row[f"person_{name}"] for name in PERSON_FIELDS}},
            _json(row["entry"]),
            {name: row[f"tenant_{name}"] for name in TENANT_FIELDS},
            own,
        )
        template = rendering.compiled(text.subject, text.body, text.text_body, text.purpose)
        rendered = rendering.render(template, values, own)
        default = formataddr((row["tenant_name"], self._mail_from))
        return mime.compose(
            Letter(
                id=row["id"],
                sender=text.from_address or row["from_address"] or default,
                recipient=row["address"],
                subject=rendered.subject,
                html=rendered.html,
                text=rendered.text,
                date=datetime.now(UTC),
                unsubscribe_url=own.unsubscribe if text.purpose == "marketing" else None,
            )
        )


def _excluded(text: Text, row: Row) -> str | None:
    if row["suppressed"] is not None:
        return "suppressed"
    if text.purpose == "marketing" and row["consent"] != "opted_in":
        return "opted_out" if row["consent"] == "opted_out" else "no_consent"
    return None


def _json(text: str | None) -> dict[str, Any]:
    return json.loads(text) if text else {}
