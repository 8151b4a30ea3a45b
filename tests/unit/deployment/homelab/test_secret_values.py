"""Secret variables of the stacks, derived from the fields of the vault."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.product import REGISTRY_LOGIN
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret
from tests.unit.deployment.conftest import NOW
from tests.unit.deployment.fleet import FIELDS, Vault

Planned = Callable[..., Plan]


class GivenVault(Vault):
    """Vault with given fields."""

    def __init__(self, fields: Mapping[str, Secret]) -> None:
        super().__init__()
        self.fields = fields

    def fetch(self) -> Mapping[str, Secret]:
        super().fetch()
        return self.fields


def revealed(values: Mapping[str, Secret]) -> dict[str, str]:
    return {name: value.reveal() for name, value in values.items()}


def test_each_stack_requires_the_fields_of_its_secrets(product: Homelab, planned: Planned) -> None:
    database = {"db_username", "db_password"}
    always = {"jwt_secret", "ghcr_token"}
    core = product.required_fields([planned("core")])
    assert set(core) == database | always | {"grafana_password"}
    assert set(product.required_fields([planned("workers")])) == database | always


def test_the_secrets_of_all_plans_are_read_with_one_call(product: Homelab, planned) -> None:
    vault = GivenVault({**FIELDS, "unrelated": Secret("")})
    fields = product.read_secrets(vault, [planned("core"), planned("workers")])
    assert vault.fetches == 1
    assert set(fields) == set(FIELDS), "fields that no plan needs are left out"


def test_only_required_fields_are_checked(product: Homelab, planned) -> None:
    without = {name: value for name, value in FIELDS.items() if name != "grafana_password"}
    product.read_secrets(GivenVault(without), [planned("workers")])
    with pytest.raises(SecretsError, match="grafana_password is missing"):
        product.read_secrets(GivenVault(without), [planned("workers"), planned("core")])


def test_the_core_exports_the_fields_and_a_verifier_of_the_password(product, planned) -> None:
    values = revealed(product.secret_values(FIELDS, planned("core"), now=NOW))
    verifier = values.pop("DB_PASSWORD_VERIFIER")
    assert verifier.startswith("SCRAM-SHA-256$")
    assert "a long password" not in verifier
    values.pop(REGISTRY_LOGIN)
    assert values == {
        "DB_USER": "ada",
        "DB_PASSWORD": "a long password",
        "JWT_SECRET": "j" * 40,
        "GF_ADMIN_PASSWORD": "another password",
    }


def test_a_node_exports_a_token_of_its_own_in_place_of_the_signing_key(product, planned) -> None:
    b, c = (
        revealed(product.secret_values(FIELDS, planned("workers", node), now=NOW)) for node in "BC"
    )
    assert set(b) == {"DB_USER", "DB_PASSWORD", "WORKER_TOKEN", REGISTRY_LOGIN}
    assert b["WORKER_TOKEN"] != c["WORKER_TOKEN"]
    later = product.secret_values(FIELDS, planned("workers"), now=NOW + timedelta(hours=1))
    assert later["WORKER_TOKEN"].reveal() == b["WORKER_TOKEN"], "it must not restart the workers"


def test_the_registry_login_is_that_of_the_inventorys_user(product, planned) -> None:
    login = product.secret_values(FIELDS, planned("core"), now=NOW)[REGISTRY_LOGIN].reveal()
    auth = base64.b64encode(b"ktrdr:ghp_0123456789").decode()
    assert json.loads(login) == {"auths": {"ghcr.io": {"auth": auth}}}


FURTHER = {
    "broker_api_key": {"variable": "BROKER_API_KEY", "stacks": ["workers"]},
    "alert_token": {"variable": "ALERT_TOKEN", "stacks": []},
}
WITH_FURTHER = {**FIELDS, "broker_api_key": Secret("k3y-of-broker"), "alert_token": Secret("t0k")}


@pytest.fixture
def further(release, deploy_id) -> Callable[..., Plan]:
    """Plan deploys with further fields in the inventory, whose hooks receive one of them."""

    def plan(target: str, **secrets: Any) -> Plan:
        given = {
            "workers": {"B": None},
            "secrets": {"fields": FURTHER, **secrets},
            "hooks": {"secrets": ["alert_token"]},
        }
        product = Homelab(Inventory.model_validate(add_defaults(given)))
        host = next(host for host in product.hosts if host.stack == target)
        return make_plan(product, host, release, deploy_id, DeployOptions())

    return plan


def test_a_further_field_is_required_by_its_stack_and_by_hooks(further) -> None:
    def required(target: str) -> set[str]:
        plan = further(target)
        return set(plan.product.required_fields([plan]))

    assert {"broker_api_key", "alert_token"} <= required("workers")
    assert "broker_api_key" not in required("core")
    assert "alert_token" in required("core"), "the hooks of every deploy receive it"


def test_a_further_field_is_exported_for_its_stack_and_scrubbed(further) -> None:
    plan = further("workers")
    values = plan.product.secret_values(WITH_FURTHER, plan, now=NOW)
    assert values["BROKER_API_KEY"].reveal() == "k3y-of-broker"
    assert "ALERT_TOKEN" not in values
    assert "BROKER_API_KEY" not in further("core").product.secret_values(
        WITH_FURTHER, further("core"), now=NOW
    )
    scrubbed = plan.product.secrets_to_scrub(WITH_FURTHER, [values], [plan])
    assert Secret("k3y-of-broker") in scrubbed


def test_a_missing_further_field_stops_a_deploy_and_is_a_problem_of_the_check(further) -> None:
    plan = further("workers")
    vault = GivenVault({**FIELDS, "alert_token": Secret("t0ken")})
    with pytest.raises(SecretsError, match="broker_api_key is missing"):
        plan.product.read_secrets(vault, [plan])
    results, _ = plan.product.check_secrets(vault, [plan])
    problems = [problem.message for each in results for problem in each.problems]
    assert problems == ["broker_api_key is missing"]


def test_the_check_notes_white_space_around_a_secret(further) -> None:
    plan = further("workers")
    vault = GivenVault(
        WITH_FURTHER | {"broker_api_key": Secret("k3y\n"), "alert_token": Secret("tttt")}
    )
    results, confidential = plan.product.check_secrets(vault, [plan])
    notes = {each.name: each.note for each in results}
    assert notes["broker_api_key"] == "broker_api_key begins or ends with a line end"
    assert "broker_api_key" in confidential


@pytest.mark.parametrize(
    ("username", "is_scrubbed"),
    [("ktrdr", False), ("postgres", False), ("backend", False), ("zoe-the-admin", True)],
)
def test_a_user_name_that_is_a_common_word_is_not_scrubbed(
    product: Homelab, planned: Planned, username: str, is_scrubbed: bool
) -> None:
    plan = planned("core")
    fields = {**FIELDS, "db_username": Secret(username)}
    values = product.secret_values(fields, plan, now=NOW)
    scrubbed = [secret.reveal() for secret in product.secrets_to_scrub(fields, [values], [plan])]
    assert (username in scrubbed) == is_scrubbed
    derived = {value.reveal() for name, value in values.items() if name != "DB_USER"}
    assert derived <= set(scrubbed)
    assert {"a long password", "j" * 40, "another password", "ghp_0123456789"} <= set(scrubbed)
