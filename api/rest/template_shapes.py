"""Bodies and answers of the routes of templates."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from api.fields import Key, Name, Strict
from core.errors import InvalidError
from services.marketing import templates, templating

Source = Annotated[str, Field(max_length=templating.MAX_SOURCE)]


class Wording(Strict):
    """What people of a locale get instead; what is left out stays as it is for everybody."""

    subject: Annotated[str | None, Field(max_length=1000)] = None
    title: Annotated[str | None, Field(max_length=1000)] = None
    body: Source | None = None
    text_body: Source | None = None


class TemplateText(Strict):
    """The text of a version. Liquid reads `person`, `entry`, `tenant`, `unsubscribe_url` and `preferences_url`.

    Mail has `subject`, `text_body`, `from` and `format`; a push message `title`, `link` and `image`.
    """

    name: Name | None = None
    subject: Annotated[str | None, Field(max_length=1000)] = None
    """Of mail."""
    title: Annotated[str | None, Field(max_length=1000)] = None
    """Of a push message."""
    body: Source
    """Gives HTML or MJML for mail, where values are escaped where they are put in; else plain text."""
    text_body: Source | None = None
    """Gives plain text; without it the text part is taken from the HTML."""
    format: Literal["html", "mjml"] | None = None
    """What the body of mail is written in; HTML where nothing is said. Styles are inlined when it is saved."""
    from_: Annotated[str | None, Field(alias="from", max_length=500)] = None
    """`Name <address>`; the tenant's sender where there is none."""
    link: Annotated[str | None, Field(max_length=2000)] = None
    """Where a push message leads."""
    image: Annotated[str | None, Field(max_length=2000)] = None
    """The address of a push message's picture."""
    purpose: Literal["marketing", "transactional"] = "marketing"
    """Marketing needs an opt-in for channel and topic; transactional needs none."""
    topic: Key = "general"
    locales: Annotated[
        dict[str, Wording], Field(default_factory=dict[str, Wording], examples=[{"de": {"body": "Hallo"}}])
    ]
    """By locale, such as `de` or `de-AT`: an exact match first, then the language."""

    def text(self, channel: str) -> templates.Text:
        """Return it as services take it.

        Raises:
            InvalidError: a title stands where the channel has a subject, or the other way round.
        """
        return templates.Text(
            subject=_headline(channel, self.subject, self.title, ""),
            body=self.body,
            text_body=self.text_body,
            format=self.format,
            from_address=self.from_,
            link=self.link,
            image=self.image,
            purpose=self.purpose,
            topic=self.topic,
            locales={
                locale: templates.Wording(
                    subject=_headline(channel, own.subject, own.title, f"locales.{locale}."),
                    body=own.body,
                    text_body=own.text_body,
                )
                for locale, own in self.locales.items()
            },
            name=self.name,
        )


def _headline(channel: str, subject: str | None, title: str | None, place: str) -> str | None:
    """Return the subject of mail, or the title of a push message."""
    if channel == "push":
        if subject is not None:
            raise InvalidError.of(f"{place}subject", "push has no subject, but a title")
        return title
    if title is not None:
        raise InvalidError.of(f"{place}title", f"{channel} has no title")
    return subject


Channel = Literal["email", "sms", "push", "social"]


class NewTemplate(TemplateText):
    """A template to create."""

    key: Key
    channel: Channel


class Template(Strict):
    """A template with one of its versions: the one that is sent now, unless another was asked for."""

    id: UUID
    key: str
    channel: str
    name: str | None
    version: int
    version_id: UUID
    subject: str | None
    title: str | None
    body: str
    """As it was written."""
    text_body: str | None
    format: str
    from_: Annotated[str | None, Field(serialization_alias="from")]
    link: str | None
    image: str | None
    purpose: str
    topic: str
    locales: dict[str, Wording]
    variables: list[str]
    """The fields of person and entry that it reads."""
    created_at: datetime
    version_created_at: datetime


class PreviewRequest(Strict):
    """For whom to render."""

    person_id: UUID
    entry: Annotated[dict[str, Any], Field(default_factory=dict)]
    """What stands for the entry event's properties."""
    locale: Annotated[str | None, Field(max_length=35)] = None
    """In place of the person's own."""


class UnsavedPreview(PreviewRequest):
    """A text that is not saved, and for whom to render it."""

    channel: Channel
    template: TemplateText


class UnsavedLint(Strict):
    """A text that is not saved, to be looked at."""

    channel: Channel
    template: TemplateText


class Finding(Strict):
    """One thing its author should know."""

    level: Literal["error", "warning", "info"]
    """An error could not be sent, or must not be."""
    code: str
    field: str
    line: int | None
    """From 1, of what was written."""
    message: str


class Findings(Strict):
    """What there is to say of a text, errors first."""

    findings: list[Finding]


class CopyRequest(Strict):
    """Who gets copies, and what they show."""

    to: Annotated[list[Annotated[str, Field(max_length=320)]] | None, Field(max_length=100)] = None
    """Addresses: of mail, or numbers."""
    person_ids: Annotated[list[UUID] | None, Field(max_length=100)] = None
    """People, in place of addresses."""
    as_person_id: UUID | None = None
    """Whose values they show; the recipient's own where that is a person."""
    entry: dict[str, Any] | None = None
    """What they show for the entry event's properties."""
    locale: Annotated[str | None, Field(max_length=35)] = None
    """In place of the person's own."""


class TemplatePreview(Strict):
    """What this person would get; its links do nothing."""

    subject: str | None
    html: str | None
    text: str
    """The text part of mail; all of the other channels."""
    title: str | None
    link: str | None
    image: str | None
