"""Imports of products."""

from api.rest.import_routes import routes
from services.commerce.product_import import KINDS, OF_PRODUCTS

router = routes("products", OF_PRODUCTS, KINDS, parameter="product_import_id")
