from __future__ import annotations

from typing import Any

import pytest

from ktrdr.deployment.homelab.inventory import Vault
from ktrdr.deployment.secrets.choice import described, source_of
from ktrdr.deployment.secrets.encrypted import AgeFile, SopsFile
from ktrdr.deployment.secrets.environment import EnvironmentVariables
from ktrdr.deployment.secrets.onepassword import OnePassword

CHOICES = [
    (
        "1password",
        OnePassword,
        'the item "ktrdr-homelab-core" in the vault "KTRDR Homelab Secrets"',
    ),
    ("age", AgeFile, "/srv/secrets, encrypted with age"),
    ("sops", SopsFile, "/srv/secrets, encrypted with SOPS"),
    ("environment", EnvironmentVariables, "the variables KTRDR_SECRET_…"),
]


@pytest.mark.parametrize(("name", "kind", "words"), CHOICES)
def test_each_source_that_an_inventory_can_name_is_made_and_said(
    name: Any, kind: type, words: str
) -> None:
    secrets = Vault(source=name, file="/srv/secrets")
    assert isinstance(source_of(secrets), kind)
    assert described(secrets).startswith(words)


def test_there_is_a_test_for_every_source() -> None:
    names = Vault.model_json_schema()["properties"]["source"]["enum"]
    assert [name for name, _, _ in CHOICES] == names
