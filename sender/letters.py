"""From a page's rows to letters: who still may get it, and what each says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import formataddr
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from core.address_hashes import AddressHashes
from core.database import Database
from core.sealing import Seal
from core.settings import Settings
from core.tokens import ConfirmRef, ConsentRef, MessageRef, Tokens
from integrations.email import mime, signing
from integrations.email.frame import Frame
from integrations.email.mime import Letter
from integrations.email.port import Mail
from sender import copies, notes, signers
from sender.results import Result
from sender.straight import Clock, Run, Straight, shared
from services.identity.topics import ALL
from services.marketing import confirmations, links, rendering, suppressions, templates
from services.marketing.links import Links, Series
from services.marketing.rendering import PERSON_FIELDS, TENANT_FIELDS, Compiled
from services.marketing.templating import TemplateError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

_CACHED_TEMPLATES: Final = 1_000
_CACHED_FRAMES: Final = 500
_NOBODY: Final = dict[str, signing.Signer]()

# Looked up by key for each message, whatever the statistics say; see `services.marketing.queueing`.
_LOAD: Final = f"""
    SELECT m.id, m.address, m.channel, m.priority, m.template_version_id, m.person_id, m.dedupe_key,
           {", ".join(f"p.{name} AS person_{name}" for name in PERSON_FIELDS)}, p.attributes,
           CASE WHEN m.enrollment_id IS NOT NULL THEN
               (SELECT entry FROM enrollment WHERE tenant_id = $1 AND id = m.enrollment_id) END AS entry,
           {", ".join(f"tenant.{name} AS tenant_{name}" for name in TENANT_FIELDS)}, tenant.from_address,
           (SELECT reason FROM suppression
            WHERE tenant_id = $1 AND channel = m.channel AND address = m.address) AS suppressed,
           (SELECT CASE WHEN bool_or(status = 'opted_out') THEN 'opted_out' ELSE min(status) END FROM consent
            WHERE tenant_id = $1 AND person_id = m.person_id AND channel = m.channel AND topic IN (v.topic, '{ALL}')
              AND (topic = v.topic OR status = 'opted_out')) AS consent,
           (SELECT (jsonb_build_object('campaign', coalesce(campaign.key, campaign.name)) || (run.plan -> 'utm'))::text
            FROM message_page AS page
            JOIN campaign_run AS run ON run.tenant_id = $1 AND run.id = page.run_id
            JOIN campaign ON campaign.tenant_id = $1 AND campaign.id = run.campaign_id
            WHERE page.tenant_id = $1 AND page.id = $2 AND jsonb_typeof(run.plan -> 'utm') = 'object') AS utm
    FROM message AS m
    JOIN tenant ON tenant.id = $1
    LEFT JOIN LATERAL (SELECT * FROM person WHERE tenant_id = $1 AND id = m.person_id LIMIT 1) AS p ON true
    CROSS JOIN LATERAL (
        SELECT topic FROM template_version WHERE tenant_id = $1 AND id = m.template_version_id LIMIT 1) AS v
    WHERE m.tenant_id = $1 AND m.page_id = $2 AND m.status = 'queued'
      AND (p.id IS NOT NULL OR m.channel = 'social' OR left(m.dedupe_key, 5) = 'test:')
    ORDER BY m.id
"""  # noqa: S608 - the names are constants of ours
_UNLESS_OPTED_IN: Final = {"opted_out": "opted_out", "pending": "unconfirmed"}
_TEMPLATES: Final = """
    SELECT id, subject, body, text_body, from_address, purpose, topic, options, locales
    FROM template_version WHERE tenant_id = $1 AND id = ANY($2::uuid[])
"""
# Addresses of people who were erased are known by their hashes alone; whoever has one now may be somebody else.
_ANY_HASHED: Final = "SELECT EXISTS (SELECT FROM suppression_hash WHERE tenant_id = $1)"
_HASHED: Final = """
    SELECT hash, reason FROM suppression_hash WHERE tenant_id = $1 AND channel = $2 AND hash = ANY($3::bytea[])
"""
_REQUESTS: Final = """
    SELECT r.id, r.topic AS key, coalesce(t.name, r.topic) AS name, r.wording, c.status
    FROM consent_change AS r
    LEFT JOIN topic AS t ON t.tenant_id = $1 AND t.key = r.topic
    LEFT JOIN consent AS c
      ON c.tenant_id = $1 AND c.person_id = r.person_id AND c.channel = r.channel AND c.topic = r.topic
    WHERE r.tenant_id = $1 AND r.id = ANY($2::uuid[])
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
    options: Mapping[str, Any]
    locales: Mapping[str, Any]


class Letters:
    """Reads pages and writes letters; keeps the template versions it has seen, which never change."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """Take where to read from, and how links look."""
        self._database = database
        self._tokens = Tokens(settings.secret_key.get_secret_value())
        self._hashes = AddressHashes(settings.secret_key.get_secret_value())
        self._public_url = settings.public_url.rstrip("/")
        self._mail_from = settings.mail_from
        self._bounce_domain = settings.bounce_domain
        self._texts: dict[tuple[UUID, UUID], Text] = {}
        self._frames: dict[tuple[Compiled, str, str, str | None, bool], Straight | None] = {}
        self._runs: dict[tuple[UUID, tuple[Any, ...]], Run | None] = {}
        self._clock = Clock()
        self._keys = signers.Keys(Seal(settings.secret_key.get_secret_value()))
        self._signers: dict[UUID, dict[str, signing.Signer]] = {}
        self._only_verified = settings.require_verified_domain
        self._verified: dict[UUID, frozenset[str]] = {}

    async def load(self, tenant_id: UUID, page_id: UUID) -> Sequence[Row]:
        """Return the messages of a page that are still queued, with all that their letters need."""
        async with self._database.hot(tenant_id) as connection:
            rows: Sequence[Row] = await connection.fetch(_LOAD, tenant_id, page_id)
            wanted = {row["template_version_id"] for row in rows}
            missing = [each for each in wanted if (tenant_id, each) not in self._texts]
            if missing:
                for found in await connection.fetch(_TEMPLATES, tenant_id, missing):
                    self._remember((tenant_id, found["id"]), found)
            domains = await connection.fetch(signers.LOAD, tenant_id)
            self._signers[tenant_id] = self._keys.signers(domains)
            self._verified[tenant_id] = frozenset(domain["domain"] for domain in domains)
            rows = await self._with_suppressions(connection, tenant_id, rows)
            rows = await copies.with_people(connection, tenant_id, page_id, rows)
            return await _with_requests(connection, tenant_id, rows)

    async def _with_suppressions(
        self, connection: "PoolConnectionProxy[Any]", tenant_id: UUID, rows: Sequence[Row]
    ) -> Sequence[Row]:
        """Return the rows of a page, all of one channel, with what hashes say of their addresses."""
        if not rows or rows[0]["channel"] not in suppressions.CHANNELS:
            return rows
        if not await connection.fetchval(_ANY_HASHED, tenant_id):
            return rows
        hashes = [self._hashes.of(tenant_id, row["channel"], row["address"]) for row in rows]
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
            options=_json(found["options"]),
            locales=_json(found["locales"]),
        )

    def excluded(self, tenant_id: UUID, row: Row) -> str | None:
        """Return why nothing may be sent for a row, None where it may."""
        return _excluded(self._texts[tenant_id, row["template_version_id"]], row)

    def write(self, tenant_id: UUID, row: Row) -> Mail | Result:
        """Return the mail for a row, or why there is none: since it was queued the person may have opted out."""
        text = self._texts[tenant_id, row["template_version_id"]]
        reason = _excluded(text, row)
        if reason is not None:
            return Result(row["id"], "excluded", reason)
        try:
            mail = self._of_run(tenant_id, row, text) or self._mail(tenant_id, row, text)
            mail = signing.signed(mail, self._signers.get(tenant_id, _NOBODY))
        except TemplateError as error:
            return Result(row["id"], "failed", f"template: {error}")
        except mime.UnsendableError as error:
            return Result(row["id"], "failed", f"address: {error}")
        if self._only_verified and self._is_foreign(tenant_id, row, text, mail):
            domain = mail.sender.rpartition("@")[2]
            return Result(row["id"], "failed", f"sender: {domain} is not a verified sender domain")
        if self._bounce_domain is None or row["channel"] != "email":
            return mail
        returning = f"b+{self._tokens.bounce(MessageRef(tenant_id, mail.id))}@{self._bounce_domain}"
        return replace(mail, sender=returning)

    def _is_foreign(self, tenant_id: UUID, row: Row, text: Text, mail: Mail) -> bool:
        """Say whether a mail names a sender whose domain is not the tenant's, as far as is verified."""
        named = row["channel"] == "email" and bool(text.from_address or row["from_address"])
        return named and signing.covering(self._verified.get(tenant_id, frozenset()), mail.sender) is None

    def _mail(self, tenant_id: UUID, row: Row, text: Text) -> Mail:
        if copies.SHOWN in row:
            sender = self._sender(text, row)
            return copies.write(row, text, sender=sender, public_url=self._public_url, key=self._tokens.short_key)
        if row["person_id"] is None:  # a post, which is to nobody
            tenant = {name: row[f"tenant_{name}"] for name in TENANT_FIELDS}
            marks = _marks(row["utm"]) if row["utm"] else ()
            return notes.write(row, text, {"tenant": tenant}, None, key=self._tokens.short_key, marks=marks)
        own = self._links(tenant_id, row, text).of(row["person_id"], row["id"])
        wording = templates.variant_for(text, row["person_locale"])
        if row["channel"] != "email":
            values = self._values(tenant_id, row, own)
            own_text = replace(text, subject=wording.subject or "", body=wording.body or "")
            return notes.write(row, own_text, values, own, key=self._tokens.short_key)
        template = rendering.compiled(wording.subject or "", wording.body or "", wording.text_body, text.purpose)
        rendered = rendering.render(template, self._values(tenant_id, row, own), own)
        return mime.compose(
            Letter(
                id=row["id"],
                sender=self._sender(text, row),
                recipient=row["address"],
                subject=rendered.subject,
                html=rendered.html,
                text=rendered.text,
                date=self._clock.now(),
                unsubscribe_url=own.unsubscribe if text.purpose == "marketing" else None,
            )
        )

    def _sender(self, text: Text, row: Row) -> str:
        return text.from_address or row["from_address"] or formataddr((row["tenant_name"], self._mail_from))

    def _links(self, tenant_id: UUID, row: Row, text: Text) -> Series:
        ref = ConsentRef(tenant_id, row["person_id"], row["id"], row["channel"], text.topic)
        marks = _marks(row["utm"]) if row["utm"] else ()
        return Series(ref, tokens=self._tokens, public_url=self._public_url, marks=marks)

    def _of_run(self, tenant_id: UUID, row: Row, text: Text) -> Mail | None:
        """Return the mail by the fast path; None where there is none."""
        if isinstance(row, dict) or row["person_id"] is None or row["channel"] != "email":
            return None  # to the rows of copies and requests something was added
        key = (tenant_id, shared(row))
        try:
            run = self._runs[key]
        except KeyError:
            while len(self._runs) >= _CACHED_FRAMES:
                del self._runs[next(iter(self._runs))]
            run = self._runs[key] = self._begun(tenant_id, row, text)
        return None if run is None else run.write(row, self._clock.now())

    def _begun(self, tenant_id: UUID, row: Row, text: Text) -> Run | None:
        """Return the run of the rows that share with this one what `shared` names."""
        wording = templates.variant_for(text, row["person_locale"])
        template = rendering.compiled(wording.subject or "", wording.body or "", wording.text_body, text.purpose)
        own = self._links(tenant_id, row, text)
        marketing = text.purpose == "marketing"
        address: str | None = row["tenant_postal_address"]
        straight = self._straight(template, self._sender(text, row), own.base, address, one_click=marketing)
        return None if straight is None else Run(straight, own)

    def _values(self, tenant_id: UUID, row: Row, own: Links) -> dict[str, Any]:
        """Return all that a template may read."""
        values = rendering.values_of(
            {"attributes": _json(row["attributes"]), **{name: row[f"person_{name}"] for name in PERSON_FIELDS}},
            _json(row["entry"]),
            {name: row[f"tenant_{name}"] for name in TENANT_FIELDS},
            own,
        )
        request = row.get("request")
        if request is not None:
            url = links.confirm(ConfirmRef(tenant_id, request["id"]), tokens=self._tokens, public_url=self._public_url)
            topic = {name: request[name] for name in rendering.TOPIC_FIELDS}
            values |= {rendering.CONFIRM_URL: url, "topic": topic}
        return values

    def _straight(
        self, template: Compiled, sender: str, base: str, address: str | None, *, one_click: bool
    ) -> Straight | None:
        """Return the template ready for the fast path, None where it is one for Liquid."""
        key = (template, sender, base, address, one_click)
        try:
            return self._frames[key]
        except KeyError:
            pass
        while len(self._frames) >= _CACHED_FRAMES:
            del self._frames[next(iter(self._frames))]
        skeleton = rendering.skeleton(template, base, address)
        straight = None
        if skeleton is not None:
            frame = Frame(
                sender=sender, html=skeleton.html, text=skeleton.text, values=skeleton.count, one_click=one_click
            )
            straight = Straight.of(skeleton, frame)
        self._frames[key] = straight
        return straight


async def _with_requests(connection: "PoolConnectionProxy[Any]", tenant_id: UUID, rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows, those that ask to confirm an opt-in with it: `request`, null where it is gone."""
    asked = {row["id"]: change for row in rows if (change := confirmations.change_of(row["dedupe_key"]))}
    if not asked:
        return rows
    found = await connection.fetch(_REQUESTS, tenant_id, list(set(asked.values())))
    requests = {request["id"]: request for request in found}
    return [{**row, "request": requests.get(asked[row["id"]])} if row["id"] in asked else row for row in rows]


def _excluded(text: Text, row: Row) -> str | None:
    if row["suppressed"] is not None:
        return "suppressed"
    if "request" in row and (row["request"] is None or row["request"]["status"] != "pending"):
        return "answered"
    if text.purpose == "marketing" and row["person_id"] is not None and row["consent"] != "opted_in":
        return _UNLESS_OPTED_IN.get(row["consent"], "no_consent")
    return None


@lru_cache(maxsize=100)
def _marks(utm: str) -> links.Marks:
    return links.marks_of(_json(utm))


def _json(text: str | None) -> dict[str, Any]:
    return json.loads(text) if text else {}
