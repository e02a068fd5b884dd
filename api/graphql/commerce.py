"""Products, carts, orders and payments."""

from api.graphql.fields import many, one, some
from api.graphql.loads import commerce as loads
from api.graphql.loads import people as people_loads
from api.graphql.names import ASSOCIATION, CART, ORDER, ORGANIZATION, PAYMENT, PERSON, PRODUCT, VARIANT
from api.graphql.objects import associated
from api.graphql.shapes import shaped
from api.rest.cart_shapes import CartLineOut, CartOut, CartProblemOut
from api.rest.order_shapes import FulfilmentOut, OrderLineOut, OrderOut, PiecesOut
from api.rest.payments import PaymentOut
from api.rest.product_shapes import PriceOut, ProductOut, VariantOut
from api.rest.refunds import FailureOut


@shaped(PriceOut)
class Price:
    """What a variant costs in a currency."""


@shaped(VariantOut)
class Variant:
    """What of a product can be bought."""

    product = one(PRODUCT, loads.products, "product_id", "products:read")


@shaped(ProductOut)
class Product:
    """A product with its variants."""


@shaped(CartLineOut)
class CartLine:
    """A line of a cart, with what it costs now."""

    variant = one(VARIANT, loads.variants, "variant_id", "products:read")


@shaped(CartProblemOut)
class CartProblem:
    """What keeps a cart from being bought as it stands."""


@shaped(CartOut)
class Cart:
    """A cart with what it costs now."""

    person = one(PERSON, people_loads.people, "person_id", "people:read")
    organization = one(ORGANIZATION, people_loads.organizations, "organization_id", "organizations:read")
    order = one(ORDER, loads.orders, "order_id", "orders:read")
    payments = many(PAYMENT, loads.payments_of_carts, "payments:read", description="The last first.")


@shaped(OrderLineOut)
class OrderLine:
    """Some pieces of a variant that were bought."""

    variant = one(VARIANT, loads.variants, "variant_id", "products:read")


@shaped(PiecesOut)
class ParcelPieces:
    """Some pieces of a line."""


@shaped(FulfilmentOut)
class Parcel:
    """What was sent of an order."""


@shaped(OrderOut)
class Order:
    """An order."""

    lines = some(OrderLine, loads.lines, "orders:read")
    fulfilments = some(Parcel, loads.parcels, "orders:read", description="In the order they were sent.")
    payments = many(PAYMENT, loads.payments_of_orders, "payments:read", description="The last first.")
    person = one(PERSON, people_loads.people, "person_id", "people:read")
    organization = one(ORGANIZATION, people_loads.organizations, "organization_id", "organizations:read")
    cart = one(CART, loads.carts, "cart_id", "carts:read")
    associations = associated(ASSOCIATION, "order")


@shaped(FailureOut)
class PaymentFailure:
    """Why a payment failed."""


@shaped(PaymentOut)
class Payment:
    """Money asked of somebody for one checkout of a cart."""

    order = one(ORDER, loads.orders, "order_id", "orders:read")
    cart = one(CART, loads.carts, "cart_id", "carts:read")
