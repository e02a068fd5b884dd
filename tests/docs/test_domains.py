"""The paths of the domains apart are those that docs/operating.md sends to them."""

import pytest

from api.app import create_app
from core.domains import DOMAINS, Domain
from core.settings import Settings
from tests.factories.gateway import Gateway


@pytest.mark.parametrize("domain", DOMAINS)
def test_each_path_leads_to_its_domain(settings: Settings, domain: Domain) -> None:
    gateway = Gateway.documented()
    paths = set(create_app(settings.model_copy(update={"domain": domain})).openapi()["paths"]) - {"/healthz", "/readyz"}
    assert {path: gateway.domain_of(path) for path in paths} == dict.fromkeys(paths, domain)
