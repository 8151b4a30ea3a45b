"""Dashboards, alert rules and scrape jobs: every name in them exists."""

from __future__ import annotations

import json
import re
from itertools import combinations

import pytest
import yaml
from prometheus_client.metrics_core import Metric

from ktrdr.telemetry.metrics import REGISTRY

DASHBOARDS = ("system-overview", "workers-and-operations")
# Metrics that Prometheus and the client library provide.
BUILT_IN = re.compile(r"^(up|ALERTS|process_\w+|prometheus_tsdb_\w+)$")
FUNCTIONS_AND_LABELS = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|\bby \([^)]*\)|\bon \(\)")


def load(root, name):
    return yaml.safe_load((root / "monitoring" / name).read_text(encoding="utf-8"))


def dashboard(root, name):
    path = root / "monitoring" / "grafana" / "dashboards" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def panels(root, name):
    return [p for p in dashboard(root, name)["panels"] if p["type"] != "row"]


def rules(root):
    return [rule for group in load(root, "rules/ktrdr.yml")["groups"] for rule in group["rules"]]


def unlabelled_gauges() -> set[str]:
    # A gauge without labels has its sample from the start.
    gauges = [m for m in REGISTRY.collect() if m.type == "gauge" and m.name.startswith("ktrdr_")]
    return {m.name for m in gauges if [sample.labels for sample in m.samples] == [{}]}


def series_of(metric: Metric) -> set[str]:
    suffixes = {
        "counter": ("_total",),
        "histogram": ("_bucket", "_sum", "_count"),
        "gauge": ("",),
    }
    return {metric.name + suffix for suffix in suffixes[metric.type]}


def metrics_in(expression: str) -> set[str]:
    bare = FUNCTIONS_AND_LABELS.sub(" ", expression)
    names = set(re.findall(r"[A-Za-z_]\w*(?!\w*\s*\()", bare))
    return {name for name in names if name.startswith("ktrdr_") or BUILT_IN.match(name)}


@pytest.fixture(scope="module")
def known() -> set[str]:
    return {series for metric in REGISTRY.collect() for series in series_of(metric)}


def expressions(root):
    for name in DASHBOARDS:
        for panel in panels(root, name):
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]
    for rule in rules(root):
        yield rule["alert"], rule["expr"]


def test_every_metric_in_dashboards_and_rules_exists(root, known):
    used: dict[str, str] = {}
    for where, expression in expressions(root):
        metrics = metrics_in(expression)
        assert metrics, f"{where} queries no metric"
        used |= dict.fromkeys(metrics, where)
    assert {n: where for n, where in used.items() if not BUILT_IN.match(n) and n not in known} == {}


def test_a_metric_that_every_process_exposes_is_queried_only_for_its_owners(root):
    # Backend and workers share one registry: a worker exposes ktrdr_database_up too, as 0.
    shared = unlabelled_gauges()
    assert "ktrdr_database_up" in shared
    for where, expression in expressions(root):
        for name, selector in re.findall(r"\b(ktrdr_\w+)(\{[^}]*\})?", expression):
            is_selected = re.search(r"job=|worker_id!=|node=", selector)
            assert name not in shared or is_selected, f"{where}: {name}"


def test_every_metric_of_the_runtime_is_in_a_dashboard_or_an_alert(root, known):
    used = set().union(*(metrics_in(expression) for _, expression in expressions(root)))
    names = {re.sub(r"_(bucket|sum|count)$", "", series) for series in known}
    ours = {name for name in names if name.startswith("ktrdr_")}
    assert ours - {re.sub(r"_(bucket|sum|count)$", "", series) for series in used} == set()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_panels_of_a_dashboard_have_unique_ids_and_do_not_overlap(root, name):
    all_panels = dashboard(root, name)["panels"]
    assert len({panel["id"] for panel in all_panels}) == len(all_panels)
    for one, other in combinations((panel["gridPos"] for panel in all_panels), 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart
        assert one["x"] + one["w"] <= 24


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_has_a_title_a_description_and_a_provisioned_source(root, name):
    sources = {source["uid"] for source in load(root, "grafana/datasources.yml")["datasources"]}
    for panel in panels(root, name):
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] in sources


def test_dashboards_have_unique_ids(root):
    assert len({dashboard(root, name)["uid"] for name in DASHBOARDS}) == len(DASHBOARDS)
    files = (root / "monitoring" / "grafana" / "dashboards").glob("*.json")
    assert {path.stem for path in files} == set(DASHBOARDS)


def test_grafanas_data_sources_are_services_of_the_stack(root, core):
    for source in load(root, "grafana/datasources.yml")["datasources"]:
        host = re.fullmatch(r"http://([\w-]+):\d+", source["url"])
        assert host
        assert host.group(1) in core["services"]


def test_grafana_reads_dashboards_from_their_mount_point(root, core):
    (provider,) = load(root, "grafana/dashboards.yml")["providers"]
    path = provider["options"]["path"]
    volumes = core["services"]["grafana"]["volumes"]
    assert f"./monitoring/grafana/dashboards:{path}:ro" in volumes


def test_prometheus_scrapes_the_backend_and_its_registered_workers(root):
    config = load(root, "prometheus.yml")
    assert config["global"]["scrape_interval"] == "15s"
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["ktrdr-backend"]["static_configs"] == [{"targets": ["backend:8000"]}]
    (discovery,) = jobs["ktrdr-workers"]["http_sd_configs"]
    assert discovery["url"] == "http://backend:8000/api/v1/service-discovery"


def test_every_alert_has_a_severity_a_summary_and_a_description(root):
    for rule in rules(root):
        assert rule["labels"]["severity"] in {"warning", "critical"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert rule["annotations"]["description"], rule["alert"]


def test_alerts_have_unique_names(root):
    names = [rule["alert"] for rule in rules(root)]
    assert len(set(names)) == len(names)
