"""The preference centre: what one person gets, by channel and topic. A plain form, usable by keyboard and ear."""

from html import escape
from typing import Final

from fastapi.responses import HTMLResponse

from api.tracking.pages import page
from services.marketing.preferences import Choices, Offer

TOPIC: Final = "topic"
"""Name of the boxes: the values sent are `channel:topic` of what is wanted."""
SEEN: Final = "seen"
"""Name of the values that say what the page showed: what it did not show stays as it is."""
EVERYTHING: Final = "everything"
"""Name of the button that ends all."""

_CHANNELS: Final = {
    "email": "By email",
    "sms": "By text message (SMS)",
    "push": "By push notification",
    "social": "On social media",
}


def preferences(choices: Choices, *, saved: bool = False) -> HTMLResponse:
    """Return the choices of one person; `saved`: they have just been made."""
    note = f'<p role="status">{_note(choices)}</p>' if saved else ""
    number = 0
    groups: list[str] = []
    for channel, offers in choices.channels.items():
        boxes: list[str] = []
        for offer in offers:
            number += 1
            boxes.append(_box(offer, number))
        if boxes:
            groups.append(f"<fieldset><legend>{_CHANNELS[channel]}</legend>{''.join(boxes)}</fieldset>")
    tenant = escape(choices.tenant_name)
    if not groups:
        return page("What would you like to get?", f"{note}<p>{tenant} offers nothing to choose from yet.</p>")
    return page(
        "What would you like to get?",
        f"{note}<p>Tick what {tenant} may write to you about.</p>"
        f'<form method="post">{"".join(groups)}<button>Save</button></form>{_ending(choices)}',
    )


def _note(choices: Choices) -> str:
    if choices.opted_out_of_all:
        return "You are unsubscribed from everything."
    waiting = [f"<b>{escape(offer.name)}</b>" for offer in choices.offers if offer.status == "pending"]
    if not waiting:
        return "Saved."
    return f"Saved. To get {', '.join(waiting)}, please press the button in the mail we send you."


def _ending(choices: Choices) -> str:
    if choices.opted_out_of_all:
        return "<p>You get nothing of this at present. Tick something and save to get it again.</p>"
    return (
        '<h2>Stop everything</h2><form method="post">'
        f'<button class="plain" name="{EVERYTHING}" value="stop">Unsubscribe from everything</button></form>'
        "<p>What you buy or ask for still brings you messages, such as receipts.</p>"
    )


def _box(offer: Offer, number: int) -> str:
    value = escape(f"{offer.channel}:{offer.topic}")
    said = [escape(text).replace("\n", "<br>") for text in (offer.description, offer.wording) if text]
    if offer.status == "pending":
        said.append("<em>Waits for you to confirm it, by the button in the mail we sent you.</em>")
    described = f' aria-describedby="about{number}"' if said else ""
    about = f'<div id="about{number}">{"<br>".join(said)}</div>' if said else ""
    return (
        f'<div class="topic"><input type="checkbox" id="topic{number}" name="{TOPIC}" value="{value}"'
        f'{" checked" if offer.wanted else ""}{described}><label for="topic{number}">{escape(offer.name)}</label>'
        f'{about}<input type="hidden" name="{SEEN}" value="{value}"></div>'
    )
