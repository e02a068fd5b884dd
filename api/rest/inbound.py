"""Mail that came in, handed over by the host that took it: bounces, complaints, replies."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Query, Request, status

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.routing import Router
from api.tracking.routes import TokensDep
from services.marketing import incoming_mail

router = Router(prefix="/inbound", tags=["messages"])

_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"message/rfc822": {"schema": {"type": "string"}}}}
}


class TakenMail(Strict):
    """What became of a mail."""

    kind: Literal["delivery_report", "complaint", "auto_reply", "reply", "unreadable"]
    outcome: Literal["recorded", "logged", "ignored", "unknown"]
    """`unknown`: it is a report of no message of yours, or cannot be read."""
    message_id: UUID | None
    communication_id: UUID | None


@router.post(
    "/mail",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[requires("messages:write")],
    openapi_extra=_BODY,
)
async def take_mail(
    request: Request,
    session: SessionDep,
    tokens: TokensDep,
    actor: ActorDep,
    recipient: Annotated[str | None, Query(max_length=320)] = None,
) -> TakenMail:
    """Take a mail as it came, `message/rfc822`; `recipient` is whom its envelope named. Twice is as good as once."""
    raw = await request.body()
    return TakenMail.model_validate(
        await incoming_mail.take(session, raw, tokens=tokens, by=actor, recipient=recipient)
    )
