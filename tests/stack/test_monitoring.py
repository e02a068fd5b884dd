"""The dashboard and the alerts ask for figures that there are."""

import json
import re
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client.registry import REGISTRY, CollectorRegistry

from core import metrics
from core.database import Database
from core.presence import PoolUse
from relay.figures import Figures
from stack import dev

FOLDER: Final = Path(dev.__file__).parent / "monitoring"
ALERTS: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
DASHBOARD: Final[dict[str, Any]] = json.loads((FOLDER / "dashboard.json").read_text())
_NAME: Final = re.compile(r"\b(?:throughline|temporal|process)_[a-z0-9_]+")


def expressions() -> list[str]:
    """What the alerts and the dashboard ask of Prometheus."""
    rules = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    return [*rules, *panels]


def monitored() -> set[str]:
    """The names of the figures in them."""
    return {name for expression in expressions() for name in _NAME.findall(expression)}


def shown(database: Database) -> set[str]:
    """The names of our figures, whatever there is to show."""
    families = [*REGISTRY.collect(), *Figures(database).collect(), *PoolUse(database).collect()]
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {f"{family.name}{ending}" for family in families for ending in endings.get(family.type, ("",))}


def test_what_is_asked_for_is_shown(database: Database) -> None:
    asked = {name for name in monitored() if not name.startswith("temporal_")}
    assert asked
    assert asked - shown(database) == set()


def test_what_is_shown_is_on_the_dashboard_or_watched(database: Database) -> None:
    ours = {name for name in shown(database) if name.startswith("throughline_")}
    families = {re.sub(r"_(?:total|bucket|sum|count)$", "", name) for name in ours}
    assert families - {re.sub(r"_(?:total|bucket|sum|count)$", "", name) for name in monitored()} == {
        "throughline_webhook_endpoints_waiting",  # to tell one slow receiver from many, by hand
    }


def test_each_alert_says_what_to_do() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["annotations"].keys() == {"summary", "do"}
        assert rule["labels"]["severity"] in {"page", "ticket"}
    told = " ".join(rule["annotations"]["do"] for rule in rules)
    for page in re.findall(r"docs/[a-z-]+\.md", told):
        assert (dev.ROOT / page).exists(), page


def test_panels_have_places_of_their_own() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])


def test_callers_cannot_fill_the_memory() -> None:
    registry = CollectorRegistry()
    requests = metrics.Requests(registry)
    for number in range(50):
        requests.answered(f"X{number}", None, 405, 0.1)
    samples = [sample for family in registry.collect() for sample in family.samples]
    assert [sample.labels for sample in samples if sample.name == "throughline_http_requests_total"] == [
        {"method": "other", "route": "other", "status": "405"}
    ]
    assert [sample.value for sample in samples if sample.name == "throughline_http_request_seconds_count"] == [50]


def test_a_tally_counts_many_at_once() -> None:
    tally = metrics.Tally("t", "What it is.", (1.0, 10.0))
    tally.add(0.5, 3)
    tally.add(20.0)
    (family,) = tally.collect()
    values = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert values == {
        ("t_bucket", "1.0"): 3,
        ("t_bucket", "10.0"): 3,
        ("t_bucket", "+Inf"): 4,
        ("t_count", None): 4,
        ("t_sum", None): 21.5,
    }
