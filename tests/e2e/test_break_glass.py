"""A deploy without ktrdr: an operator passes the script of a dry run to a host's shell."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest

from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory_file import load_inventory
from ktrdr.secret import Secret
from ktrdr.tokens import create_node_token
from lab import nodes
from lab.config import ROOT
from tests.e2e.conftest import Lab, node
from tests.e2e.leaks import CommandLineSampler, leaks_in

# Prints null while the program is only starting.
VERSION = """
import json, os, urllib.request
url = f"http://127.0.0.1:{os.environ['WORKER_PORT']}/health"
try:
    version = json.load(urllib.request.urlopen(url, timeout=5))["version"]
except OSError:
    version = None
print(json.dumps(version))
"""


@pytest.fixture
def restored(lab: Lab) -> Iterator[Lab]:
    """Return the lab; deploy the checkout again at the end."""
    yield lab
    lab.good("deploy", "workers", "B")


def secrets_of_worker(lab: Lab, key: str) -> Mapping[str, str]:
    """Return the variables that an operator sets by hand, with values of the vault."""
    inventory = load_inventory(ROOT / "deploy/inventory.yml", shown_as="inventory", environ={})
    signing_key, now = Secret(lab.fields["jwt_secret"]), datetime.now(UTC)
    login = Homelab(inventory).registry_login({"ghcr_token": Secret(lab.fields["ghcr_token"])})
    assert login
    return {
        "DB_USER": lab.fields["db_username"],
        "DB_PASSWORD": lab.fields["db_password"],
        "WORKER_TOKEN": create_node_token(signing_key, node(key).names[0], now=now).reveal(),
        "DOCKER_AUTH_CONFIG": login.reveal(),
    }


def run_on_host(key: str, text: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a shell on a host; pass it on standard input, not as an argument."""
    command = [*nodes.attach_command(node(key)), "sh"]
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=280, check=False
    )


def versions(lab: Lab, key: str) -> set[str]:
    """Return the versions that the services of a worker node report."""
    services = ("backtest-worker-1", "training-worker-1")
    return {str(lab.inside(key, service, VERSION)) for service in services}


def test_the_script_of_a_dry_run_deploys_a_release(restored: Lab, moving_tag: str) -> None:
    lab = restored
    shown = lab.good("deploy", "workers", "B", "--tag", moving_tag, "--dry-run", "-v").out
    secrets = secrets_of_worker(lab, "B")
    exports = [f"export {name}={shlex.quote(value)}\n" for name, value in secrets.items()]
    sampler = CommandLineSampler({name: secrets[name] for name in secrets if name != "DB_USER"})
    done = run_on_host("B", "".join(exports) + shown)
    assert sampler.stop().found == {}, "a secret was in an argument list"
    assert done.returncode == 0, done.stderr
    hidden = {name: value for name, value in lab.fields.items() if name != "db_username"}
    assert leaks_in(done.stdout + done.stderr, hidden) == []
    deadline = time.monotonic() + 60
    while versions(lab, "B") != {moving_tag}:
        assert time.monotonic() < deadline, "the new release is not served"
        time.sleep(1)
    # The host records it, and the next deploy finds nothing to do.
    (host,) = lab.good("deploy", "history", "workers", "B", "--last", "1", "--json").json["hosts"]
    (last,) = host["releases"]
    assert (last["tag"], last["outcome"]) == (moving_tag, "cut off")
    assert "run manually" in last["reason"]
    again = lab.good("deploy", "workers", "B", "--tag", moving_tag, "--json").on_host
    assert again["outcome"] == "unchanged"


def test_the_script_changes_nothing_if_a_secret_is_missing(lab: Lab) -> None:
    shown = lab.good("deploy", "workers", "B", "--dry-run", "-v").out
    before = {name: each["Id"] for name, each in lab.inspect("B").items()}
    done = run_on_host("B", shown)
    assert done.returncode != 0
    assert "DB_USER" in done.stderr
    assert {name: each["Id"] for name, each in lab.inspect("B").items()} == before
    locks = lab.good("deploy", "lock", "show", "workers", "B", "--json").json["hosts"]
    assert [host["held"] for host in locks] == [False]
