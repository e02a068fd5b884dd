"""The base of request and response bodies, and the types their fields share."""

from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from core import currency
from core.errors import InvalidError


class Strict(BaseModel):
    """A body whose unknown fields are refused. Texts the store cannot hold are refused before, by `api.routing`."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


def _known_currency(code: str) -> str:
    if code not in currency.EXPONENTS:
        raise ValueError("is not a currency code of ISO 4217")
    return code


CurrencyCode = Annotated[str, AfterValidator(_known_currency)]
"""Three letters, ISO 4217."""

Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_\-]{0,62}$")]
"""What a tenant calls a thing of its own: lower case letters, digits, `_` and `-`, at most 63 characters."""

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
"""What people read."""

Instant = AwareDatetime
"""RFC 3339, with an offset."""


class _LeftOut:
    """Of a field that is None where it is left out: refuses null, and has the document offer none."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_not_null, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        offered = handler(schema)
        others = [each for each in offered.pop("anyOf") if each != {"type": "null"}]
        return {**(others[0] if len(others) == 1 else {"anyOf": others}), **offered}


def _not_null(given: Any) -> Any:  # noqa: ANN401 - whatever was sent
    if given is None:
        raise ValueError("cannot be null")
    return given


LEFT_OUT: Final = _LeftOut()
"""`Annotated[T | None, ..., LEFT_OUT] = None`: may be left out, as what it is stays then, but never be null."""


class Money(Strict):
    """An amount at the edge; inside it is an integer of the currency's smallest unit."""

    amount: Annotated[Decimal, Field(max_digits=18, allow_inf_nan=False)]
    """Decimal text, such as `"12.50"`."""
    currency: CurrencyCode

    def minor(self, field: str) -> int:
        """Return the amount in the smallest unit; `field` is what names the money in the request.

        Raises:
            InvalidError: it is finer than the currency's smallest unit.
        """
        try:
            return currency.to_minor(self.amount, self.currency)
        except ValueError as problem:
            raise InvalidError.of(f"{field}.amount", str(problem)) from problem

    @classmethod
    def of(cls, minor: int, code: str) -> Self:
        """Return the amount of `minor` smallest units."""
        return cls(amount=currency.from_minor(minor, code), currency=code)
