"""Which of a version's texts a person gets: by their locale, as RFC 4647 looks languages up."""

from collections.abc import Mapping
from typing import Any, Protocol

from services.marketing.templates.texts import Wording


class Localized(Protocol):
    """A template version, from wherever it was read."""

    @property
    def subject(self) -> str | None:
        """As `Wording` has it."""
        ...

    @property
    def body(self) -> str:
        """As `Wording` has it."""
        ...

    @property
    def text_body(self) -> str | None:
        """As `Wording` has it."""
        ...

    @property
    def locales(self) -> Mapping[str, Any]:
        """As the table has it."""
        ...


def variant_for(version: Localized, locale: str | None) -> Wording:
    """Return what a person of this locale gets: the exact locale's, else the language's, else the version's own.

    A body of its own without a text of its own has its text taken from it: the version's is in another language.
    """
    found = chosen(version.locales, locale) if version.locales and locale else None
    if found is None:
        return Wording(version.subject, version.body, version.text_body)
    own: Mapping[str, Any] = version.locales[found]
    body, text_body = own.get("body"), own.get("text_body")
    return Wording(
        subject=own.get("subject") or version.subject,
        body=body or version.body,
        text_body=text_body if body else text_body or version.text_body,
    )


def chosen(locales: Mapping[str, Any], locale: str) -> str | None:
    """Return the key of `locales` that serves this locale best; None for none: `de-AT` takes `de-at`, else `de`."""
    keys = {canonical(key): key for key in locales}
    wanted = canonical(locale).split("-")
    while wanted:
        found = keys.get("-".join(wanted))
        if found is not None:
            return found
        wanted.pop()
        if wanted and len(wanted[-1]) == 1:  # what introduces an extension means nothing alone
            wanted.pop()
    return None


def canonical(locale: str) -> str:
    """Return a locale as locales are compared."""
    return locale.replace("_", "-").casefold()
