"""Fixtures: the parsed compose files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]


class ComposeLoader(yaml.SafeLoader):
    """Loader that accepts Compose's own tags, and ignores what they replace or remove."""


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return None


ComposeLoader.add_constructor("!override", _plain)
ComposeLoader.add_constructor("!reset", _plain)


def _load(name: str) -> dict[str, Any]:
    # A subclass of SafeLoader, which constructs only plain values.
    loaded = yaml.load((ROOT / name).read_text(encoding="utf-8"), Loader=ComposeLoader)
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def core() -> dict[str, Any]:
    return _load("docker-compose.core.yml")


@pytest.fixture(scope="session")
def workers() -> dict[str, Any]:
    return _load("docker-compose.workers.yml")


@pytest.fixture(scope="session")
def dev() -> dict[str, Any]:
    return _load("docker-compose.dev.yml")
