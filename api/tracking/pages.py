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
    "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem;color:#222}"
    "button{font:inherit;padding:.5rem 1.25rem;border:0;border-radius:.4rem;background:#222;color:#fff;cursor:pointer}"
    "label{display:block;margin:.5rem 0}"
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


def unsubscribed() -> HTMLResponse:
    """Return the confirmation."""
    return page("You are unsubscribed", "<p>You will get no more of this mail.</p>")


def preferences(tenant: str, topics: dict[str, bool], *, saved: bool = False) -> HTMLResponse:
    """Return the choices of one person."""
    boxes = "".join(
        f'<label><input type="checkbox" name="topic" value="{escape(topic)}"{" checked" if opted_in else ""}> '
        f"{escape(topic)}</label>"
        for topic, opted_in in topics.items()
    )
    note = "<p role=status>Saved.</p>" if saved else ""
    return page(
        "What would you like to get?",
        f'{note}<p>Mail from {escape(tenant)} about:</p><form method="post">{boxes}<button>Save</button></form>',
    )
