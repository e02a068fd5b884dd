"""Types by their names, for fields of modules that those types' modules import in turn."""

from typing import Annotated, Any, Final, cast

import strawberry


def _later(name: str, module: str) -> Any:  # noqa: ANN401 - what stands for a type
    return cast("Any", Annotated)[name, strawberry.lazy(f"api.graphql.{module}")]


PERSON: Final = _later("Person", "people")
ORGANIZATION: Final = _later("Organization", "organizations")
ASSOCIATION: Final = _later("Association", "objects")
DEAL: Final = _later("Deal", "crm")
TASK: Final = _later("Task", "crm")
SEGMENT: Final = _later("Segment", "marketing")
JOURNEY: Final = _later("Journey", "marketing")
ENROLLMENT: Final = _later("Enrollment", "marketing")
CAMPAIGN: Final = _later("Campaign", "marketing")
MESSAGE: Final = _later("Message", "marketing")
PRODUCT: Final = _later("Product", "commerce")
VARIANT: Final = _later("Variant", "commerce")
CART: Final = _later("Cart", "commerce")
ORDER: Final = _later("Order", "commerce")
PAYMENT: Final = _later("Payment", "commerce")
