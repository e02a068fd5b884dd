"""From a template version and a person's values to the subject, HTML and text of one mail.

Templates are compiled once per process; what belongs to every mail (the footer with unsubscribe link and postal
address, tracked links, the open pixel) is put into the rendered HTML here.
"""

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from services.marketing import plain_text, templating
from services.marketing.skeleton import NotStraightError, Skeleton, Texts
from services.marketing.templating import TemplateError, Variable

if TYPE_CHECKING:
    from liquid import BoundTemplate

    from services.marketing.links import Links

PERSON_FIELDS: Final = (
    "id",
    "email",
    "phone",
    "external_id",
    "first_name",
    "last_name",
    "time_zone",
    "locale",
    "source",
    "lifecycle_stage",
    "is_customer",
    "is_lead",
    "is_contact",
    "is_vendor",
    "is_employee",
    "created_at",
)
"""What a template may ask of a person, beside attributes."""
TENANT_FIELDS: Final = ("name", "postal_address")
LINK_VARIABLES: Final = ("unsubscribe_url", "preferences_url")
CONFIRMATION: Final = "confirm_subscription"
"""Key of the template that asks a person to confirm an opt-in; it alone may read the next."""
CONFIRM_URL: Final = "confirm_url"
TOPIC_FIELDS: Final = ("key", "name", "wording")
"""What it may ask of the topic; `wording` is what the person was told."""
MAX_SUBJECT: Final = 400
"""Characters of a rendered subject that are kept."""

_CONTROL: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LINK: Final = re.compile(r"""(<a\b[^<>]*?\bhref\s*=\s*)(["'])(https?://[^"'<>]*)\2""", re.IGNORECASE)
_BODY_END: Final = re.compile(r"</body\s*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rendered:
    """What one person gets to read."""

    subject: str
    html: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """A template version ready for rendering."""

    subject: "BoundTemplate"
    body: "BoundTemplate"
    text: "BoundTemplate | None"
    adds_link: bool
    """Marketing mail whose HTML names no unsubscribe link gets one."""
    adds_address: bool
    """As `adds_link`, for the postal address."""


@lru_cache(maxsize=500)
def compiled(subject: str, body: str, text_body: str | None, purpose: str) -> Compiled:
    """Compile a version; the most recently used are kept.

    Raises:
        TemplateError: it does not parse.
    """
    parsed = templating.parse(body, html=True)
    used = {str(variable) for variable in templating.variables(body, parsed)}
    marketing = purpose == "marketing"
    return Compiled(
        subject=templating.parse(subject, html=False),
        body=parsed,
        text=None if text_body is None else templating.parse(text_body, html=False),
        adds_link=marketing and "unsubscribe_url" not in used,
        adds_address=marketing and "tenant.postal_address" not in used,
    )


def problem_with(variable: Variable, *, confirming: bool = False) -> str | None:
    """Say why a template may not read `variable`; None when it may. `confirming`: it asks to confirm an opt-in."""
    match variable.path:
        case ("topic", field) if confirming:
            known = field in TOPIC_FIELDS
        case ("confirm_url",):
            known = confirming
        case ("person", "attributes", *_) | ("entry", *_):
            known = True
        case ("person", field):
            known = field in PERSON_FIELDS
        case ("tenant", field):
            known = field in TENANT_FIELDS
        case (name,):
            known = name in LINK_VARIABLES
        case _:
            known = False
    return None if known else f"{variable} is not known"


def values_of(
    person: Mapping[str, Any],
    entry: Mapping[str, Any],
    tenant: Mapping[str, Any],
    links: "Links",
) -> dict[str, Any]:
    """Return what a template can read; `person` has `PERSON_FIELDS` and `attributes`, `tenant` has `TENANT_FIELDS`."""
    return {
        "person": person,
        "entry": entry,
        "tenant": tenant,
        "unsubscribe_url": links.unsubscribe,
        "preferences_url": links.preferences,
    }


def render(template: Compiled, values: Mapping[str, Any], links: "Links") -> Rendered:
    """Render a mail.

    Raises:
        TemplateError: a limit was reached, a value does not fit a filter, or the subject is empty.
    """
    subject = subject_of(templating.render(template.subject, values))
    body = templating.render(template.body, values)
    address = values["tenant"]["postal_address"] if template.adds_address else None
    footer = _footer(links.unsubscribe, address, link=template.adds_link)
    if template.text is None:
        text = plain_text.from_html(body + footer)
    else:
        own = _text_footer(links.unsubscribe, address, link=template.adds_link)
        text = templating.render(template.text, values) + own
    pixel = _pixel(links.pixel) if links.pixel else ""
    return Rendered(subject, _before_end(_tracked(body, links), footer + pixel), text)


@lru_cache(maxsize=500)
def skeleton(template: Compiled, base: str, address: str | None) -> Skeleton | None:
    """Return the template compiled for the fast path, None where it is one for Liquid.

    `base` is that of the links, `address` the tenant's postal address.
    """
    shown = address if template.adds_address else None

    def finish(body: str, unsubscribe: str, pixel: str, tracked: Callable[[str], str]) -> tuple[str, str]:
        footer = _footer(unsubscribe, shown, link=template.adds_link)

        def through_us(link: re.Match[str]) -> str:
            return f"{link[1]}{link[2]}{tracked(link[3])}{link[2]}"

        with_links = _LINK.sub(through_us, body)
        return _before_end(with_links, footer + _pixel(pixel)), plain_text.from_html(body + footer)

    def finish_text(text: str, unsubscribe: str) -> str:
        return text + _text_footer(unsubscribe, shown, link=template.adds_link)

    try:
        return Skeleton(Texts(template.subject, template.body, template.text, finish, finish_text), base=base)
    except NotStraightError:
        return None


def subject_of(text: str) -> str:
    """Return a rendered subject as one line.

    Raises:
        TemplateError: nothing is left.
    """
    # Of white space only the blank is printable.
    line = text if text.isprintable() and "  " not in text else _CONTROL.sub(" ", text)
    subject = line.strip()[:MAX_SUBJECT]
    if not subject:
        raise TemplateError("the subject is empty")
    return subject


def _tracked(body: str, links: "Links") -> str:
    """Return the HTML with its links leading through us, but for those that are ours already."""

    def through_us(link: re.Match[str]) -> str:
        target = html.unescape(link[3]).strip()
        if target.startswith(links.base):
            return link[0]
        return f"{link[1]}{link[2]}{html.escape(links.click(target))}{link[2]}"

    return _LINK.sub(through_us, body)


def _pixel(address: str) -> str:
    return f'<img src="{address}" width="1" height="1" alt="">'


def _footer(unsubscribe: str, address: str | None, *, link: bool) -> str:
    lines = [html.escape(address).replace("\n", "<br>")] if address else []
    if link:
        lines.append(f'<a href="{unsubscribe}">Unsubscribe</a>')
    if not lines:
        return ""
    return f'<p style="margin-top:2em;font-size:12px;color:#666">{"<br>".join(lines)}</p>'


def _text_footer(unsubscribe: str, address: str | None, *, link: bool) -> str:
    lines = [address] if address else []
    if link:
        lines.append(f"Unsubscribe: {unsubscribe}")
    return "".join(f"\n\n{line}" for line in lines)


def _before_end(body: str, added: str) -> str:
    """Put `added` before the last end of the body, or at the end where the HTML is a fragment."""
    if not added:
        return body
    ends = list(_BODY_END.finditer(body))
    at = ends[-1].start() if ends else len(body)
    return body[:at] + added + body[at:]
