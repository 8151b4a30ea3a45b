"""The inventory's file: what it may say, and what is said of a wrong one."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.deployment.homelab.inventory import (
    Core,
    HookSettings,
    Inventory,
    Ports,
    Vault,
    WorkerNode,
)
from ktrdr.deployment.homelab.inventory_file import load
from ktrdr.errors import ConfigurationError


@pytest.fixture
def read(tmp_path):
    def read_text(text, **given):
        path = tmp_path / "inventory.yml"
        path.write_text(text, encoding="utf-8")
        return load(path, shown_as="deploy/inventory.yml", **given)

    return read_text


def test_an_empty_inventory_is_the_specification_without_workers(read):
    inventory = read("")

    assert inventory.core.host == "backend.ktrdr.home.mynerd.place"
    assert inventory.core.workdir == "/opt/ktrdr-core"
    assert inventory.api_url == "http://backend.ktrdr.home.mynerd.place:8000"
    assert (inventory.secrets.vault, inventory.secrets.item) == (
        "KTRDR Homelab Secrets",
        "ktrdr-homelab-core",
    )
    assert inventory.workers == {}


@pytest.mark.parametrize("entry", ["D: {}", "D:"])
def test_a_node_d_is_one_entry(read, entry):
    node = read(f"workers:\n  {entry}\n").workers["D"]

    assert node.host == "workers-d.ktrdr.home.mynerd.place"
    assert node.workdir == "/opt/ktrdr-workers-d"
    assert (node.shared_directory, node.scale) == ("/mnt/ktrdr-shared", 1)


def test_host_names_follow_from_the_domain(read):
    inventory = read("domain: lab.example\nworkers: {B: }\n")

    assert inventory.core.host == "backend.lab.example"
    assert inventory.workers["B"].host == "workers-b.lab.example"


def test_a_node_may_be_called_like_a_word_that_yaml_takes_for_a_boolean(read):
    assert list(read("workers: {N: , Y: , 1: }").workers) == ["N", "Y", "1"]


def test_the_api_url_follows_host_and_port_of_the_core(read):
    inventory = read("core: {host: a.example, ports: {backend: 8001}}")

    assert inventory.api_url == "http://a.example:8001"


WRONG = [
    (
        "a: [",
        1,
        "this is not YAML: expected the node content, but found '<stream end>'",
    ),
    (
        "core:\n  host: a\n  host: b\n",
        3,
        "core.host is defined twice (first on deploy/inventory.yml:2)",
    ),
    (
        "- core\n",
        1,
        "an inventory is keys with values, not a list",
    ),
    (
        "domain: a.test\ncore:\n  prots: {}\n",
        3,
        "core.prots is not a known key; did you mean ports?",
    ),
    (
        "coer: {}\n",
        1,
        "coer is not a known key; did you mean core?",
    ),
    (
        "workers:\n  B:\n    sacle: 2\n",
        3,
        "workers.B.sacle is not a known key; did you mean scale?",
    ),
    (
        "core:\n  ports:\n    grafana: high\n",
        3,
        "core.ports.grafana must be a whole number, not text",
    ),
    (
        "core:\n  ports:\n    grafana: 8000\n",
        3,
        "core.ports.grafana: port 8000 is already that of core.ports.backend",
    ),
    (
        "core:\n  ports:\n    backend: 3000\n",
        3,
        "core.ports.backend: port 3000 is already that of core.ports.grafana",
    ),
    (
        "core: {ports: {nfs: 70000}}",
        1,
        "core.ports.nfs must be at most 65535, not 70000",
    ),
    (
        "workers:\n  B: {}\n  C:\n    host: workers-b.ktrdr.home.mynerd.place\n",
        4,
        "workers.C.host: workers-b.ktrdr.home.mynerd.place is already the host of workers.B.host",
    ),
    (
        "workers:\n  B: {scale: 4}\n",
        2,
        "workers.B.scale must be at most 3, not 4",
    ),
    (
        "workers: [B]\n",
        1,
        "workers must be keys with values, not a list",
    ),
    (
        "domain: 3\n",
        1,
        "domain must be text, not a number",
    ),
    (
        "core: {workdir: opt}",
        1,
        "core.workdir is not an absolute path that Docker can mount: 'opt'",
    ),
    (
        "core: {host: 'a b'}",
        1,
        "core.host is not a host name: 'a b'",
    ),
    (
        "core: {bind_address: here}",
        1,
        "core.bind_address is not an IPv4 address: 'here'",
    ),
    (
        "image: Ktrdr\n",
        1,
        "image is not an image's name without a tag: 'Ktrdr'",
    ),
    (
        "secrets:\n  delivery: file\n",
        2,
        "secrets.delivery must be 'env' or 'tmpfs', not 'file'",
    ),
    (
        "secrets:\n  source: keepass\n",
        2,
        "secrets.source must be '1password', 'age', 'sops' or 'environment', not 'keepass'",
    ),
    (
        "secrets:\n  vault: x\n  source: sops\n",
        3,
        "secrets.source sops needs secrets.file as well",
    ),
    (
        "workers: {'B C': }",
        1,
        "'B C' cannot name a node: letters, digits and inner hyphens can",
    ),
    (
        "domain: !!python/name:os.system ''",
        1,
        "could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'",
    ),
]


@pytest.mark.parametrize(("text", "line", "reason"), WRONG)
def test_a_wrong_inventory_is_refused_with_file_line_and_reason(read, text, line, reason):
    with pytest.raises(ConfigurationError) as refusal:
        read(text)

    assert refusal.value.message == f"deploy/inventory.yml:{line}: {reason}"
    assert refusal.value.exit_code == 3


def test_several_faults_are_counted_and_the_first_line_is_named(read):
    with pytest.raises(ConfigurationError, match=r"yml:2: core\.hots .* \(and 1 more\)$"):
        read("core:\n  hots: a\nworkers:\n  B: {scale: 9}\n")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"the inventory .*/none\.yml does not exist"):
        load(tmp_path / "none.yml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "inventory.yml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(path)


def test_options_win_over_the_environment_and_the_environment_over_the_file(read):
    text = "core: {host: from-file}\nsecrets: {vault: from-file, item: from-file}\n"
    inventory = read(
        text,
        environ={
            "KTRDR_INVENTORY_CORE_HOST": "from-environment",
            "KTRDR_INVENTORY_SECRETS_ITEM": "from-environment",
            "KTRDR_INVENTORY": "not-a-value",
        },
        settings=["core.host=from-option"],
    )

    assert inventory.core.host == "from-option"
    assert inventory.secrets.item == "from-environment"
    assert inventory.secrets.vault == "from-file"


def test_a_node_of_the_file_can_be_changed_by_the_environment(read):
    environ = {"KTRDR_INVENTORY_WORKERS_NODE_B_SCALE": "3"}

    assert read("workers: {node-b: }", environ=environ).workers["node-b"].scale == 3


def test_a_node_can_be_added_by_an_option(read):
    assert "D" in read("workers: {B: }", settings=["workers.D={}"]).workers


def test_a_variable_that_names_no_key_is_refused_with_the_nearest(read):
    with pytest.raises(ConfigurationError, match="did you mean KTRDR_INVENTORY_CORE_HOST"):
        read("", environ={"KTRDR_INVENTORY_CORE_HOTS": "x"})


def test_a_wrong_override_is_blamed_on_the_override(read):
    text = "core: {ports: {grafana: 3000}}"
    with pytest.raises(ConfigurationError, match=r"^--set core\.ports\.grafana: .* not text$"):
        read(text, settings=["core.ports.grafana=x"])
    with pytest.raises(ConfigurationError, match=r"^KTRDR_INVENTORY_CORE_PORTS_NFS: "):
        read(text, environ={"KTRDR_INVENTORY_CORE_PORTS_NFS": "3000"})


@pytest.mark.parametrize("setting", ["core.host", "=x"])
def test_an_option_without_key_or_value_is_refused(read, setting):
    with pytest.raises(ConfigurationError, match="is written KEY=VALUE"):
        read("", settings=[setting])


def test_files_of_secrets_are_looked_for_beside_the_inventory(read, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    secrets = "secrets: {source: age, file: secrets.age, identity: ~/key.txt}"

    assert read(secrets).secrets.file == str(tmp_path / "secrets.age")
    assert read(secrets).secrets.identity == "/home/ann/key.txt"
    elsewhere = read(secrets, settings=["secrets.file=/srv/x.age", "secrets.identity=~no-one/x"])
    assert elsewhere.secrets.file == "/srv/x.age"
    assert elsewhere.secrets.identity == str(tmp_path / "~no-one/x")


def test_another_source_can_be_chosen_for_one_run_whatever_the_file_says(read):
    environ = {"KTRDR_INVENTORY_SECRETS_SOURCE": "environment"}

    chosen = read("secrets: {source: age, file: x}", environ=environ).secrets
    assert chosen.source == "environment"


def test_an_override_that_yaml_takes_for_a_wrong_date_is_the_text_that_it_is(read):
    assert read("", settings=["core.host=2026-99-99"]).core.host == "2026-99-99"


@pytest.mark.parametrize("text", ["{1: }", "[" * 3000, '"\\UFFFFFFFF"', "!!int ''"])
def test_an_override_that_yaml_cannot_take_is_text_or_refused_with_its_name(read, text):
    with pytest.raises(ConfigurationError, match=r"^--set core"):
        read("", settings=[f"core.host={text}"])


def test_an_override_reads_names_as_the_file_does(read):
    assert list(read("", settings=["workers={N: , 1: }"]).workers) == ["N", "1"]


_KEYS = st.text(max_size=12) | st.sampled_from(
    ["core", "core.host", "core.host.x", "core.ports.nfs", "workers", "workers.B", "secrets"]
)
_VALUES = st.text(max_size=20) | st.from_regex(r"[\[\]{}:,&*!<>|\"'\\ a-z0-9=~.-]*", fullmatch=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_KEYS, _VALUES), max_size=3))
def test_any_overrides_give_an_inventory_or_an_error(given_values):
    environ = {
        f"KTRDR_INVENTORY_{key.replace('.', '_').upper()}": value for key, value in given_values
    }
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "inventory.yml"
        path.write_text("workers: {B: }\n", encoding="utf-8")
        for overrides in ({"environ": environ}, {"settings": map("=".join, given_values)}):
            try:
                message = repr(load(path, **overrides))
            except ConfigurationError as refusal:
                message = refusal.message
            assert message


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"[a-z0-9_.:@%\[\]/-]{1,20}", fullmatch=True))
def test_any_host_name_is_refused_or_one_that_ssh_takes_for_nothing_else(name):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "inventory.yml"
        path.write_text(yaml.safe_dump({"core": {"host": name}}), encoding="utf-8")
        try:
            host = load(path).core.host
        except ConfigurationError:
            return
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", host)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80) | st.from_regex(r"(core|workers|domain): ?[\[\{\]\}:,\- a-z0-9]*\n"))
def test_any_text_is_an_inventory_or_an_error_that_names_the_file(text):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "inventory.yml"
        path.write_text(text, encoding="utf-8")
        try:
            message = repr(load(path, shown_as="inventory.yml"))
        except ConfigurationError as refusal:
            message = refusal.message
    assert message.startswith(("Inventory(", "inventory.yml:", "the inventory inventory.yml"))


def test_the_committed_inventory_is_valid_and_uses_defaults(root):
    inventory = load(root / "deploy/inventory.yml")

    assert list(inventory.workers) == ["B", "C"]
    assert inventory.core.host == "backend.ktrdr.home.mynerd.place"


def test_the_committed_inventory_documents_every_key_with_its_default(root):
    parts = (Inventory, Core, HookSettings, Ports, Vault, WorkerNode)
    keys = {key for part in parts for key in part.model_fields}
    commented_out = re.compile(rf"^( *)# ( *)({'|'.join(keys)}):", re.MULTILINE)
    text = (root / "deploy/inventory.yml").read_text(encoding="utf-8")
    whole = yaml.safe_load(commented_out.sub(r"\1\2\3:", text))

    assert whole.keys() == Inventory.model_fields.keys()
    assert whole["core"].keys() == Core.model_fields.keys()
    assert whole["core"]["ports"] == Ports().model_dump()
    assert whole["secrets"] == Vault().model_dump()
    assert HookSettings.model_validate(whole["hooks"]) == HookSettings(environment=[], secrets=[])
    assert whole["workers"]["B"].keys() == WorkerNode.model_fields.keys()
