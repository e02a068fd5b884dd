"""Where Twilio reports: no key, for the address names the account and the account's token signs the form."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.datastructures import UploadFile

from api.dependencies import DatabaseDep, SettingsDep
from api.form_data import form_data
from api.rest.channel_accounts import KeepingDep
from core.errors import ForbiddenError, NotFoundError
from core.tokens import BadTokenError, Tokens
from integrations.sms.twilio import SIGNATURE, is_signed
from services.marketing import account_channels, accounts, text_reports
from services.marketing.providers import TwilioSecret

router = APIRouter(prefix="/v1/hooks/twilio", tags=["channels"])

_MAX_FIELDS: Final = 200
_NOTHING_TO_SAY: Final = '<?xml version="1.0" encoding="UTF-8"?><Response/>'


class XmlResponse(Response):
    """What Twilio is to do next."""

    media_type = "text/xml"


def get_tokens(settings: SettingsDep) -> Tokens:
    """Return what reads tokens."""
    return Tokens(settings.secret_key.get_secret_value())


@router.post(
    "/{token}",
    operation_id="hooks.twilio",
    response_class=XmlResponse,
    responses={200: {"content": {"text/xml": {"example": _NOTHING_TO_SAY}}}, 403: {}, 409: {}, 503: {}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/x-www-form-urlencoded": {
                    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
                    "example": {"MessageSid": "SM00000000000000000000000000000001", "MessageStatus": "delivered"},
                }
            },
        }
    },
)
async def report(
    token: Annotated[str, Path(max_length=200)],
    request: Request,
    tokens: Annotated[Tokens, Depends(get_tokens)],
    database: DatabaseDep,
    settings: SettingsDep,
    keeping: KeepingDep,
) -> XmlResponse:
    """Take a receipt or an answer, signed by Twilio in `X-Twilio-Signature`."""
    try:
        ref = tokens.read_account(token)
    except BadTokenError as error:
        raise NotFoundError("No such account.") from error
    async with form_data(request, max_files=0, max_fields=_MAX_FIELDS) as form:
        fields = [(name, value) for name, value in form.multi_items() if not isinstance(value, UploadFile)]
    url = account_channels.hook_url(ref, "twilio", tokens=tokens, public_url=settings.public_url)
    if request.url.query:
        url += f"?{request.url.query}"
    async with database.tenant(ref.tenant_id) as session:
        account = await accounts.get(session, ref.account_id)
        secret = accounts.credentials(account, keeping=keeping).secret
        given = request.headers.get(SIGNATURE, "")
        if not isinstance(secret, TwilioSecret) or secret.auth_token is None:
            raise ForbiddenError("Without the account's auth_token nothing shows that this comes from Twilio.")
        if not is_signed(url, fields, given, secret.auth_token):
            raise ForbiddenError(f"{SIGNATURE} does not fit.")
        said = {name: value.replace("\0", " ") for name, value in fields}
        await text_reports.take(session, said, request_id=request.state.request_id)
    return XmlResponse(_NOTHING_TO_SAY)
