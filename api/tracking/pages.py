"""The few pages that recipients see. Plain HTML, nothing loaded, nothing told to others."""

from html import escape
from typing import Final

from fastapi.responses import HTMLResponse

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;color:#222;"
    "background:#fff;overflow-wrap:anywhere}"
    "h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.1rem;margin-top:2.5rem}"
    "button{font:inherit;padding:.6rem 1.4rem;border:2px solid #222;border-radius:.4rem;background:#222;color:#fff;"
    "cursor:pointer}button.plain{background:#fff;color:#222}"
    "a:focus-visible,button:focus-visible,input:focus-visible{outline:3px solid #06c;outline-offset:2px}"
    "fieldset{border:0;padding:0;margin:1.5rem 0}legend{font-weight:600;padding:0}"
    ".topic{display:grid;grid-template-columns:1.8rem 1fr;margin:.9rem 0}"
    ".topic input{width:1.2rem;height:1.2rem;margin:.15rem 0 0}.topic div{grid-column:2;color:#555;font-size:.92rem}"
    "blockquote{margin:1rem 0;padding-left:1rem;border-left:3px solid #ccc;color:#444}"
    "[role=status]{background:#eaf5ea;border-radius:.4rem;padding:.6rem 1rem}"
)


def page(title: str, content: str, *, status: int = 200) -> HTMLResponse:
    """Return a page; `content` is HTML, escaped by the caller."""
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{content}</body></html>"
    )
    return HTMLResponse(document, status_code=status, headers=HEADERS)


def not_found() -> HTMLResponse:
    """Return what a link leads to that is not ours, or no longer leads anywhere."""
    return page("This link does not work", "<p>It may have been cut off when it was copied.</p>", status=404)


def ask_to_unsubscribe(tenant: str, topic: str) -> HTMLResponse:
    """Return the question; only its button changes anything."""
    return page(
        "Unsubscribe?",
        f"<p>You will get no more mail from {escape(tenant)} about <b>{escape(topic)}</b>.</p>"
        '<form method="post"><button>Unsubscribe</button></form>',
    )


def unsubscribed(preferences_token: str) -> HTMLResponse:
    """Return the confirmation."""
    return page(
        "You are unsubscribed",
        "<p>You will get no more of this mail.</p>"
        f'<p><a href="../p/{preferences_token}">Choose what else you get</a>, or take it back there.</p>',
    )


def ask_to_confirm(tenant: str, topic: str, wording: str | None) -> HTMLResponse:
    """Return the question whether an opt-in is meant; only its button changes anything."""
    told = f"<blockquote>{_lines(wording)}</blockquote>" if wording else ""
    return page(
        "Confirm your subscription",
        f"<p>{escape(tenant)} was asked to write to you about <b>{escape(topic)}</b>.</p>{told}"
        '<form method="post"><button>Confirm</button></form>'
        "<p>If it was not you, close this page: unless you confirm, you will not be subscribed.</p>",
    )


def confirmed(tenant: str, topic: str) -> HTMLResponse:
    """Return the confirmation."""
    return page(
        "You are subscribed",
        f"<p>{escape(tenant)} will write to you about <b>{escape(topic)}</b>. "
        "Each of these mails has a link to unsubscribe.</p>",
    )


def no_longer_open(topic: str, *, expired: bool) -> HTMLResponse:
    """Return why a request can no longer be confirmed."""
    why = "the link was valid for seven days" if expired else "you have unsubscribed since, or changed your address"
    return page(
        "This can no longer be confirmed",
        f"<p>Nothing was changed: {why}. To get mail about <b>{escape(topic)}</b>, please sign up again.</p>",
        status=410,
    )


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")
