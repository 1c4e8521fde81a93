"""The examples for Kubernetes, Prometheus and Grafana, held to what Headrace serves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace import Timeouts
from headrace._core.health import REASONS
from headrace.observe.catalogue import CATALOGUE
from headrace.observe.reporting import Source
from headrace.web.routes import Answers
from headrace.web.showing import Showing

EXAMPLES = Path(__file__).parents[3] / "examples"
RULES = EXAMPLES / "prometheus" / "rules.yaml"
NAMES = {metric.name for _, metrics in CATALOGUE.sections() for metric in metrics}


def documents(name: str) -> list[Any]:
    """All of one YAML file."""
    return list(yaml.safe_load_all((EXAMPLES / name).read_text(encoding="utf-8")))


def rules() -> list[dict[str, Any]]:
    """The alerts."""
    found: list[dict[str, Any]] = documents("prometheus/rules.yaml")[0]["groups"][0]["rules"]
    return found


def metrics_in(text: str) -> set[str]:
    """Names of ours in an expression, without those that an adapter makes."""
    return set(re.findall(r"headrace_\w+", text)) - {"headrace_pod_lag_records"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.*")), ids=lambda path: path.name)
def test_every_metric_that_is_named_exists(path: Path) -> None:
    found = metrics_in(path.read_text(encoding="utf-8"))
    assert found - NAMES == set()
    assert found or path.name == "deployment.yaml"


def test_every_alert_is_tested_and_names_reasons_that_exist() -> None:
    tested = (RULES.parent / "rules_test.yaml").read_text(encoding="utf-8")
    for rule in rules():
        assert re.search(rf"alertname: {rule['alert']}\b.*\n +exp_alerts:\n", tested), rule["alert"]
        assert rule["annotations"]["summary"]
    reasons = set(re.findall(r'reason="(\w+)"', RULES.read_text(encoding="utf-8")))
    assert reasons <= {reason.name for reason in REASONS}


def test_probes_ask_what_is_served_and_the_stop_has_time() -> None:
    answers = Answers(
        Source("group", view=lambda: pytest.fail("not asked")),
        health=lambda: pytest.fail("not asked"),
        showing=Showing(records=False),
    )
    served = {getattr(route, "path", "") for route in answers.routes()}
    pod = documents("kubernetes/deployment.yaml")[0]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > Timeouts().stop_s
    (container,) = pod["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in served
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"


def test_every_document_says_what_it_is() -> None:
    for name in ("deployment", "keda", "hpa"):
        for document in documents(f"kubernetes/{name}.yaml"):
            assert {
                "apiVersion",
                "kind",
                "metadata",
                "data" if document["kind"] == "ConfigMap" else "spec",
            } <= set(document)


def test_the_grafana_dashboard_is_whole() -> None:
    board = json.loads((EXAMPLES / "grafana" / "headrace.json").read_text(encoding="utf-8"))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [panel["gridPos"] for panel in board["panels"]]
    taken = {
        (x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])
    }
    assert len(taken) == sum(p["w"] * p["h"] for p in places), "panels overlap"
    assert all(panel["targets"] for panel in board["panels"])


@pytest.mark.parametrize(
    "arguments", [("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")]
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (on Debian: apt-get install prometheus)")
    ended = subprocess.run(
        [promtool, *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
