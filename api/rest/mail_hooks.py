"""Where mail providers report: no key, for the address names the account, and each provider shows that it is itself."""

import hashlib
import time
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Path, Request

from api.dependencies import DatabaseDep
from api.fields import Strict
from api.rest.channel_accounts import KeepingDep
from api.tracking.routes import TokensDep
from core.actor import Actor
from core.database import TenantSession
from core.errors import ForbiddenError, InvalidError, NotFoundError, UnauthorizedError, UnavailableError
from core.logging import get_logger
from core.tokens import BadTokenError
from integrations import outward
from integrations.email.reports import mailgun, postmark, sendgrid, ses, sns
from integrations.email.reports.port import ForgedReportError, MalformedReportError, Told, text
from integrations.email.reports.sns import Certificates, UnreachableAmazonError
from services.marketing import accounts, mail_feedback
from services.marketing.mail_accounts import MailgunSecret, PostmarkSecret, SendgridConfig, SesConfig
from services.marketing.providers import Credentials
from services.tenancy import idempotency
from services.tenancy.idempotency import Answer

router = APIRouter(prefix="/v1/hooks", tags=["channels"])

MailProvider = Literal["sendgrid", "mailgun", "postmark", "ses"]

_NOTHING: Final = mail_feedback.Taken(0, 0, 0)
_OK: Final = 200

_log = get_logger(__name__)


class Taken(Strict):
    """What became of the events."""

    recorded: int
    ignored: int
    """From which nothing follows: opens and clicks, which we count ourselves, and what is not final."""
    unknown: int
    """Of no message of the tenant's."""


@cache
def get_certificates() -> Certificates:
    """Return the certificates of Amazon's that this process knows."""
    return Certificates(outward.client(private=False))


@router.post(
    "/{provider}/{token}",
    operation_id="hooks.report",
    responses={401: {}, 403: {}, 409: {}},
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": ["array", "object"]}}}}
    },
)
async def report(
    provider: MailProvider,
    token: Annotated[str, Path(max_length=200)],
    request: Request,
    tokens: TokensDep,
    database: DatabaseDep,
    keeping: KeepingDep,
    certificates: Annotated[Certificates, Depends(get_certificates)],
) -> Taken:
    """Take what a mail provider reports of messages, verified as it documents; the same again changes nothing."""
    try:
        ref = tokens.read_account(token)
    except BadTokenError as error:
        raise NotFoundError("No such account.") from error
    async with database.tenant(ref.tenant_id) as session:
        account = await accounts.get(session, ref.account_id)
        if account.provider != provider:
            raise NotFoundError("No such account.")
        credentials = accounts.credentials(account, keeping=keeping)
    body = await request.body()
    by = Actor(f"provider:{provider}", request.state.request_id)
    events, token_of_mailgun = await _read(provider, request.headers, body, credentials, certificates)
    once = f"mailgun:{ref.account_id}:{token_of_mailgun}" if token_of_mailgun is not None else None
    async with database.tenant(ref.tenant_id) as session:
        if once is not None and not await _is_first(session, once, body):
            taken = _NOTHING
        else:
            taken = await mail_feedback.take(session, events, provider=provider, by=by)
    if taken.unknown:
        _log.info("reports_of_unknown_messages", provider=provider, unknown=taken.unknown)
    return Taken.model_validate(taken)


async def _read(
    provider: MailProvider,
    headers: Mapping[str, str],
    body: bytes,
    credentials: Credentials,
    certificates: Certificates,
) -> tuple[list[Told], str | None]:
    """Return the events of a report whose origin was verified, and the token of one that counts once."""
    try:
        match provider:
            case "sendgrid":
                return _of_sendgrid(headers, body, credentials), None
            case "mailgun":
                posted = _of_mailgun(body, credentials)
                return [posted.told], posted.token
            case "postmark":
                return _of_postmark(headers, body, credentials), None
            case "ses":
                return await _of_ses(body, credentials, certificates), None
    except MalformedReportError as error:
        raise InvalidError.of("body", str(error)) from error
    except ForgedReportError as error:
        raise ForbiddenError(str(error)) from error
    except UnreachableAmazonError as error:
        raise UnavailableError(str(error)) from error


def _of_sendgrid(headers: Mapping[str, str], body: bytes, credentials: Credentials) -> list[Told]:
    config = credentials.config
    if not isinstance(config, SendgridConfig) or config.verification_key is None:
        raise ForgedReportError("Without the account's verification_key nothing shows that this comes from SendGrid.")
    sendgrid.verify(headers, body, sendgrid.key_of(config.verification_key))
    return sendgrid.read(body)


def _of_mailgun(body: bytes, credentials: Credentials) -> mailgun.Posted:
    secret = credentials.secret
    if not isinstance(secret, MailgunSecret) or secret.webhook_signing_key is None:
        raise ForgedReportError("Without the account's webhook_signing_key nothing shows that this comes from Mailgun.")
    return mailgun.read(body, secret.webhook_signing_key, now=time.time())


def _of_postmark(headers: Mapping[str, str], body: bytes, credentials: Credentials) -> list[Told]:
    secret = credentials.secret
    if not isinstance(secret, PostmarkSecret) or secret.webhook_username is None or secret.webhook_password is None:
        raise ForgedReportError("Without the account's webhook_password nothing shows that this comes from Postmark.")
    try:
        postmark.verify(headers.get("authorization", ""), secret.webhook_username, secret.webhook_password)
    except ForgedReportError as error:
        raise UnauthorizedError(str(error)) from error
    return [postmark.read(body)]


async def _of_ses(body: bytes, credentials: Credentials, certificates: Certificates) -> list[Told]:
    config = credentials.config
    if not isinstance(config, SesConfig) or config.topic_arn is None:
        raise ForgedReportError("Without the account's topic_arn anybody's topic could report.")
    message = await sns.verified(body, config.topic_arn, certificates)
    match text(message, "Type"):
        case "SubscriptionConfirmation":
            await certificates.fetch(text(message, "SubscribeURL"))
            return []
        case "Notification":
            return [ses.read(text(message, "Message"))]
        case _:
            return []


async def _is_first(session: TenantSession, key: str, body: bytes) -> bool:
    """Whether a token of Mailgun's is new; with another event than before it was stolen.

    Raises:
        ForbiddenError: it was.
        ConflictError: it is just being used.
    """
    digest = hashlib.sha256(body).digest()
    try:
        known = await idempotency.claim(session, key, digest)
    except InvalidError as error:
        raise ForbiddenError("signature.token was used before, with another event.") from error
    if known is None:
        await idempotency.keep(session, key, digest, Answer(_OK, {}, b""))
    return known is None
