"""The Temporal client, and what workflows are found by."""

import socket
from functools import cache

from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import TLSConfig

from core.settings import Settings
from core.workflow_spans import interceptors

TENANT_ID = SearchAttributeKey.for_keyword("TenantId")
DOMAIN = SearchAttributeKey.for_keyword("Domain")
JOURNEY_ID = SearchAttributeKey.for_keyword("JourneyId")
CAMPAIGN_ID = SearchAttributeKey.for_keyword("CampaignId")

MARKETING_QUEUE = "marketing"
IDENTITY_QUEUE = "identity"
CRM_QUEUE = "crm"
COMMERCE_QUEUE = "commerce"
"""One task queue a domain."""
WEBHOOK_QUEUE = "webhooks"
"""Of the identity domain, and apart: whoever posts to slow receivers must not take the places of others."""

DEPLOYMENT = "throughline"
"""What Temporal calls our workers together, where they have versions."""
_PORTS_TRIED = 5


@cache
def measured() -> tuple[Runtime, str]:
    """Return the runtime of this process that is measured, and the `host:port` at which its figures are read.

    Only this machine reaches that: `core.exposition` passes them on. It does not outlive a fork.
    """
    for attempt in range(_PORTS_TRIED):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        metrics = PrometheusConfig(
            bind_address=address, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
        )
        try:
            return Runtime(telemetry=TelemetryConfig(metrics=metrics)), address
        except ValueError:  # somebody was quicker
            if attempt == _PORTS_TRIED - 1:
                raise
    raise AssertionError  # the last attempt has returned or raised


async def connect(settings: Settings) -> Client:
    """Connect to the Temporal frontend that the settings name.

    Raises:
        RuntimeError: nothing answers there.
    """
    tls: bool | TLSConfig = settings.temporal_tls or settings.temporal_api_key is not None
    if settings.temporal_tls_cert is not None and settings.temporal_tls_key is not None:
        tls = TLSConfig(
            client_cert=settings.temporal_tls_cert.read_bytes(),
            client_private_key=settings.temporal_tls_key.read_bytes(),
        )
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        api_key=settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None,
        tls=tls,
        runtime=None if settings.metrics_listen is None else measured()[0],
        data_converter=pydantic_data_converter,
        interceptors=interceptors(),
    )
