"""Takes mail for the tenant that its recipient names: what the server and the command have in common."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from uuid import UUID

from asyncpg import InterfaceError, PostgresError
from opentelemetry.trace import StatusCode
from sqlalchemy.exc import SQLAlchemyError

from core import logging, tracing
from core.actor import SYSTEM
from core.database import Database
from core.errors import NotFoundError, PlatformError
from core.metrics import MAILS_TAKEN
from core.tokens import BadTokenError, Tokens
from services.marketing import incoming_mail, mail_reports
from services.tenancy import tenants

SECONDS: Final = 60
"""What taking a mail may last; mail servers wait for minutes, and come again."""

log = logging.get_logger(__name__)


class Answer(Enum):
    """What is said to who hands a mail over."""

    TAKEN = auto()
    """It is in the store, or is nothing to keep."""
    NO_TENANT = auto()
    """No tenant's address: whoever wrote it may be told so."""
    NO_MAIL = auto()
    """Not a mail, or none that could ever be taken."""
    LATER = auto()
    """It is not taken, through no fault of the mail's: to be handed over again."""


@dataclass(frozen=True, slots=True)
class Inbox:
    """Where mail is handed over."""

    database: Database
    tokens: Tokens
    tenant_id: UUID | None = None
    """Whose the mail is that bears no token of a tenant's."""

    def tenant_of(self, recipient: str | None) -> UUID | None:
        """Return whose address that is: what its token says, else the inbox's own tenant."""
        return self._signed(mail_reports.tokens_in(recipient or "")) or self.tenant_id

    async def take(self, raw: bytes, recipient: str | None) -> Answer:
        """Take a mail as it came; taken again it changes nothing. Never raises.

        Args:
            raw: the mail, with line ends of either kind.
            recipient: whom the envelope names; without it, the mail's header may hold the token.
        """
        with tracing.entered({}, "take mail", attributes={}) as span:
            answer = await self._answer(raw, recipient)
            span.set_attribute(tracing.ANSWER, answer.name.lower())
            if answer is Answer.LATER:
                span.set_status(StatusCode.ERROR)
        MAILS_TAKEN.labels(answer.name.lower()).inc()
        return answer

    async def _answer(self, raw: bytes, recipient: str | None) -> Answer:
        if not mail_reports.is_mail(raw):
            return Answer.NO_MAIL
        tenant_id = self.tenant_of(recipient) or self._signed(mail_reports.read(raw).tokens)
        return Answer.NO_TENANT if tenant_id is None else await self._take(tenant_id, raw, recipient)

    async def _take(self, tenant_id: UUID, raw: bytes, recipient: str | None) -> Answer:
        tracing.annotate({tracing.TENANT: str(tenant_id)})
        try:
            async with asyncio.timeout(SECONDS), self.database.tenant(tenant_id) as session:
                await tenants.get(session)
                taken = await incoming_mail.take(session, raw, tokens=self.tokens, by=SYSTEM, recipient=recipient)
        except NotFoundError:
            return Answer.NO_TENANT
        except PlatformError as error:
            log.warning("mail.refused", tenant_id=str(tenant_id), code=error.code)
            return Answer.NO_MAIL if error.status < 500 else Answer.LATER  # noqa: PLR2004 - HTTP's border
        except (OSError, PostgresError, InterfaceError, SQLAlchemyError) as error:  # TimeoutError is an OSError
            log.warning("mail.deferred", tenant_id=str(tenant_id), error=type(error).__name__)
            return Answer.LATER
        except Exception as error:  # a fault of ours: the mail waits until it is mended
            log.exception("mail.failed", tenant_id=str(tenant_id), exc_info=error)
            return Answer.LATER
        log.info(
            "mail.taken",
            tenant_id=str(tenant_id),
            kind=taken.kind,
            outcome=taken.outcome,
            message_id=None if taken.message_id is None else str(taken.message_id),
        )
        return Answer.TAKEN

    def _signed(self, candidates: Iterable[str]) -> UUID | None:
        for token in candidates:
            try:
                return self.tokens.read_bounce(token).tenant_id
            except BadTokenError:
                continue
        return None
