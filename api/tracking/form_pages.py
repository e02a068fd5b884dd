"""Forms as HTML: to be put into a website's page, and as a page of our own. They work without a script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import quote, urlsplit

from fastapi.responses import HTMLResponse

from api.tracking import pages
from core.errors import FieldProblem
from services.identity.form_definition import FormConsent, FormField
from services.identity.forms import Definition

HONEYPOT: Final = "tl_website"
"""A field that people do not see and programs fill in."""
SUBMISSION: Final = "tl_submission"
TOKEN: Final = "tl_token"  # noqa: S105 - a field's name
ANONYMOUS: Final = "tl_anonymous_id"
URL: Final = "tl_url"
THANKS: Final = "Thank you. We have got it."

_INPUTS: Final = {"text": "text", "email": "email", "phone": "tel", "number": "text", "hidden": "hidden"}
_AUTOCOMPLETE: Final = {"email": "email", "phone": "tel", "first_name": "given-name", "last_name": "family-name"}
_AWAY: Final = "position:absolute;left:-10000px;width:1px;height:1px;overflow:hidden"
_STYLE: Final = (
    "*{box-sizing:border-box}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:0 auto;padding:2rem 1rem;color:#1a1a1a}"
    "h1{font-size:1.5rem;line-height:1.25}p{margin:0 0 1.1rem}label{font-weight:600}"
    "input:not([type=checkbox]),select,textarea{font:inherit;display:block;width:100%;margin-top:.25rem;"
    "padding:.6rem .7rem;border:1px solid #767676;border-radius:.4rem;background:#fff;color:inherit}"
    "textarea{min-height:8rem}"
    "input[type=checkbox]{width:1.15rem;height:1.15rem;margin:0 .5rem 0 0;vertical-align:-.2rem}"
    ":focus-visible{outline:3px solid #1a73e8;outline-offset:1px}"
    "button{font:inherit;font-weight:600;padding:.7rem 1.5rem;border:0;border-radius:.4rem;background:#1a1a1a;"
    "color:#fff;cursor:pointer}"
    ".tl-note{display:block;font-size:.9rem;color:#555}.tl-error{display:block;font-weight:600;color:#b00020}"
    "[aria-invalid=true]{border-color:#b00020!important;border-width:2px!important}"
    ".tl-errors{border:2px solid #b00020;border-radius:.4rem;padding:.8rem 1rem;margin-bottom:1.5rem}"
    ".tl-errors ul{margin:.3rem 0 0;padding-left:1.2rem}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What was filled in so far, and what is wrong with it."""

    answers: Mapping[str, object]
    problems: Sequence[FieldProblem] = ()
    hidden: Mapping[str, str]
    """Fields of our own."""


def snippet(definition: Definition, public_key: str, public_url: str) -> str:
    """Return the form for a website's own page: it posts by itself, and by the script where that is loaded."""
    action = f"{public_url}/forms/{quote(public_key)}"
    parts = [
        f'<form action="{escape(action)}" method="post" data-throughline-form="{escape(public_key)}">',
        *_body(definition, State(answers={}, hidden={})),
        "</form>",
    ]
    return "\n".join(parts)


def hosted(
    definition: Definition,
    tenant_name: str,
    state: State,
    *,
    embedders: frozenset[str],
    status: int = 200,
) -> HTMLResponse:
    """Return the form as a page of its own; it posts to its own address."""
    content = [*_summary(definition, state.problems), '<form method="post" novalidate>', *_body(definition, state)]
    targets = [_origin(definition.redirect_url)] if definition.redirect_url else []
    title = f"Please check: {definition.name}" if state.problems else f"{definition.name} - {tenant_name}"
    return _page(
        title,
        f"<h1>{escape(definition.name)}</h1>\n" + "\n".join([*content, "</form>"]),
        status=status,
        # Chrome holds also where a post is redirected to against form-action.
        form_action=" ".join(["'self'", *targets]),
        embedders=embedders,
    )


def thanks(definition: Definition, *, embedders: frozenset[str]) -> HTMLResponse:
    """Return what people see after they sent it."""
    message = escape(definition.success_message or THANKS).replace("\n", "<br>")
    return _page(
        definition.name, f'<h1>{escape(definition.name)}</h1>\n<p role="status">{message}</p>', embedders=embedders
    )


def refused(title: str, detail: str, status: int) -> HTMLResponse:
    """Return what people see where nothing can be sent."""
    return _page(title, f"<h1>{escape(title)}</h1>\n<p>{escape(detail)}</p>", status=status)


def _page(
    title: str,
    content: str,
    *,
    status: int = 200,
    form_action: str = "'self'",
    embedders: frozenset[str] = frozenset(),
) -> HTMLResponse:
    document = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n{content}\n</main></body></html>"
    )
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; form-action {form_action}; "
        f"frame-ancestors {' '.join(sorted(embedders)) or chr(39) + 'none' + chr(39)}; base-uri 'none'"
    )
    return HTMLResponse(document, status, headers={**pages.HEADERS, "Content-Security-Policy": policy})


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _summary(definition: Definition, problems: Sequence[FieldProblem]) -> list[str]:
    if not problems:
        return []
    labels = {field.name: field.label for field in definition.fields}
    items = [
        f'<li><a href="#{_place(definition, p.field)}">{escape(labels[p.field])}</a> {escape(p.reason)}</li>'
        if p.field in labels
        else f"<li>{escape(p.reason)}</li>"
        for p in problems
    ]
    return [f'<div class="tl-errors" role="alert"><b>Please check</b><ul>{"".join(items)}</ul></div>']


def _body(definition: Definition, state: State) -> list[str]:
    reasons = {problem.field: problem.reason for problem in state.problems}
    agreed = {item.field: item for item in definition.consent if item.field is not None}
    lines = [
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in state.hidden.items()
    ]
    lines += [
        _control(
            field,
            _place(definition, field.name),
            state.answers.get(field.name),
            reasons.get(field.name),
            agreed.get(field.name),
        )
        for field in definition.fields
    ]
    lines.append(
        f'<div aria-hidden="true" style="{_AWAY}"><label>Leave this empty '
        f'<input name="{HONEYPOT}" tabindex="-1" autocomplete="off"></label></div>'
    )
    lines += [f'<p class="tl-note">{escape(item.wording)}</p>' for item in definition.consent if item.field is None]
    lines.append("<p><button>Send</button></p>")
    return lines


def _place(definition: Definition, field: str) -> str:
    """Return a field's id: a page may hold several forms."""
    return escape(f"tl-{definition.key}-{field}")


def _control(field: FormField, place: str, given: object, reason: str | None, agreed: FormConsent | None) -> str:
    attributes = f' id="{place}" name="{escape(field.name)}"' + (" required" if field.required else "")
    described: list[str] = []
    notes = ""
    if agreed is not None and agreed.wording != field.label:
        described.append(f"{place}-note")
        notes += f'<span class="tl-note" id="{place}-note">{escape(agreed.wording)}</span>'
    if reason is not None:
        attributes += ' aria-invalid="true"'
        described.append(f"{place}-error")
        notes += f'<span class="tl-error" id="{place}-error">This {escape(reason)}</span>'
    if described:
        attributes += f' aria-describedby="{" ".join(described)}"'
    value = "" if given is None or isinstance(given, bool) else escape(str(given))
    label = f'<label for="{place}">{escape(field.label)}{"" if field.required else _OPTIONAL}</label>'
    if field.type == "hidden":
        return f'<input type="hidden" name="{escape(field.name)}" value="{value}">'
    if field.type == "checkbox":
        ticked = " checked" if given is True or (isinstance(given, str) and given) else ""
        label = f'<label for="{place}">{escape(field.label)}</label>'
        return f'<p><input type="checkbox"{attributes} value="true"{ticked}>{label}{notes}</p>'
    if field.type == "select":
        options = "".join(
            f"<option{' selected' if choice == given else ''}>{escape(choice)}</option>"
            for choice in field.choices or ()
        )
        return f'<p>{label}<select{attributes}><option value="">Please choose</option>{options}</select>{notes}</p>'
    if field.type == "textarea":
        return f"<p>{label}<textarea{attributes}>\n{value}</textarea>{notes}</p>"
    if field.maps_to in _AUTOCOMPLETE:
        attributes += f' autocomplete="{_AUTOCOMPLETE[field.maps_to]}"'
    if field.type == "number":
        attributes += ' inputmode="decimal"'
    return f'<p>{label}<input type="{_INPUTS[field.type]}"{attributes} value="{value}">{notes}</p>'


_OPTIONAL: Final = ' <span class="tl-note" style="display:inline;font-weight:400">(optional)</span>'
