from __future__ import annotations

from typing import Any

import pytest

from ktrdr.deployment.homelab.inventory import SecretSettings
from ktrdr.deployment.homelab.secret_source import describe_source, make_source
from ktrdr.deployment.secrets.command import CommandSource
from ktrdr.deployment.secrets.encrypted import AgeFile, SopsFile
from ktrdr.deployment.secrets.environment import EnvironmentSource
from ktrdr.deployment.secrets.onepassword import OnePassword

SOURCES = [
    (
        "1password",
        OnePassword,
        'the item "ktrdr-homelab-core" in the vault "KTRDR Homelab Secrets"',
    ),
    ("age", AgeFile, "/srv/secrets, encrypted with age"),
    ("sops", SopsFile, "/srv/secrets, encrypted with sops"),
    ("environment", EnvironmentSource, "the variables KTRDR_SECRET_…"),
    ("command", CommandSource, "the command bw"),
]


@pytest.mark.parametrize(("name", "kind", "description"), SOURCES)
def test_each_source_of_an_inventory_is_made_and_describe_source(
    name: Any, kind: type, description: str
) -> None:
    settings = SecretSettings(source=name, file="/srv/secrets", command=["bw", "get"])
    assert isinstance(make_source(settings), kind)
    assert describe_source(settings).startswith(description)


def test_there_is_a_test_for_every_source() -> None:
    names = SecretSettings.model_json_schema()["properties"]["source"]["enum"]
    assert [name for name, _, _ in SOURCES] == names
