"""Dashboards by the schema of Grafana itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins, runtime
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

DASHBOARDS = ("system-overview", "workers-and-operations")

plugins.register_default_plugins()


@pytest.fixture(params=DASHBOARDS)
def dashboard(root, request) -> dict[str, Any]:
    path = root / "monitoring" / "grafana" / "dashboards" / f"{request.param}.json"
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def unknown_to_grafana(dashboard: dict[str, Any]) -> list[str]:
    """Return the paths whose values the schema does not know, or reads as something else."""
    parsed = JSONEncoder().encode(Dashboard.from_json(deepcopy(dashboard)))
    return list(_differences(dashboard, json.loads(parsed), ""))


def _differences(written: Any, read: Any, path: str) -> Iterator[str]:
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            yield from _differences(value, read.get(key), f"{path}/{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for number, pair in enumerate(zip(written, read, strict=True)):
            yield from _differences(*pair, f"{path}/{number}")
    elif written != read:
        yield path


def test_grafana_knows_every_key_of_a_dashboard(dashboard) -> None:
    assert unknown_to_grafana(dashboard) == []


def test_grafana_has_every_type_of_panel_and_of_query(dashboard) -> None:
    for panel in dashboard["panels"]:
        assert panel["type"] == "row" or runtime.panelcfg_config(panel["type"]), panel["title"]
        for target in panel.get("targets", ()):
            assert target["datasource"]["type"] in runtime.Runtime().dataquery_variants


def test_a_misspelt_key_is_found_at_every_depth(dashboard) -> None:
    number, panel = next(
        (number, panel)
        for number, panel in enumerate(dashboard["panels"])
        if panel["type"] == "timeseries"
    )
    panel["fieldConfig"]["defaults"]["custom"]["lineWidht"] = 2
    panel["targets"][0]["legend"] = "{{node}}"
    panel["options"]["legends"] = {}
    dashboard["refreshes"] = "10s"
    assert sorted(unknown_to_grafana(dashboard)) == [
        f"/panels/{number}/fieldConfig/defaults/custom/lineWidht",
        f"/panels/{number}/options/legends",
        f"/panels/{number}/targets/0/legend",
        "/refreshes",
    ]
