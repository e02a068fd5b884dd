"""The four domains, each of which can run in processes of its own."""

from typing import Final, Literal, get_args

Domain = Literal["identity", "crm", "marketing", "commerce"]
DOMAINS: Final[tuple[Domain, ...]] = get_args(Domain)
