"""Reading, validation and template of the inventory's file."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.homelab.inventory import (
    Core,
    HookSettings,
    Inventory,
    Ports,
    PrepareSettings,
    SecretSettings,
    WorkerNode,
)
from ktrdr.deployment.homelab.inventory_file import load_inventory, parse_inventory, render_template
from ktrdr.errors import ConfigurationError
from ktrdr.settings import BackendSettings, WorkerSettings

OPTIONS: dict[str, Any] = {
    "domain": "ktrdr.home.mynerd.place",
    "core_host": "backend.ktrdr.home.mynerd.place",
    "nodes": ["B", "C"],
    "image": "ghcr.io/ktrdr/ktrdr-backend",
    "registry_user": "ktrdr",
    "secret_source": "1password",
}


@pytest.fixture
def read(tmp_path):
    def read_text(text, **given):
        path = tmp_path / "inventory.yml"
        path.write_text(text, encoding="utf-8")
        return load_inventory(path, shown_as="deploy/inventory.yml", **given)

    return read_text


def test_an_empty_inventory_has_all_defaults_and_no_workers(read):
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
def test_a_node_is_one_short_entry(read, entry):
    node = read(f"workers:\n  {entry}\n").workers["D"]

    assert node.host == "workers-d.ktrdr.home.mynerd.place"
    assert node.workdir == "/opt/ktrdr-workers-d"
    assert (node.shared_directory, node.scale) == ("/mnt/ktrdr-shared", 1)


def test_host_names_follow_from_the_domain(read):
    inventory = read("domain: lab.example\nworkers: {B: }\n")

    assert inventory.core.host == "backend.lab.example"
    assert inventory.workers["B"].host == "workers-b.lab.example"


def test_node_names_may_be_words_that_yaml_reads_as_booleans(read):
    assert list(read("workers: {N: , Y: , 1: }").workers) == ["N", "Y", "1"]


def test_networks_of_people_may_be_written_as_an_address_in_them(read):
    inventory = read("prepare: {people: [10.0.0.7/24, fd00::1, 10.0.1.5]}")

    assert list(inventory.prepare.people) == ["10.0.0.0/24", "fd00::1/128", "10.0.1.5/32"]


def test_the_api_url_follows_host_and_port_of_the_core(read):
    inventory = read("core: {host: a.example, ports: {backend: 8001}}")

    assert inventory.api_url == "http://a.example:8001"


WRONG = [
    (
        "prepare:\n  firewall: maybe\n",
        2,
        "prepare.firewall must be true or false, not text",
    ),
    (
        "prepare:\n  people: [10.0.0.0/8, lan]\n",
        2,
        "prepare.people.1 is not an address or a network such as 192.168.1.0/24: 'lan'",
    ),
    (
        "prepare:\n  people: 10.0.0.0/8\n",
        2,
        "prepare.people must be a list, not text",
    ),
    (
        "prepare:\n  share: /tank\n",
        2,
        "prepare.share is not an NFS export such as nas.example.org:/tank/ktrdr: '/tank'",
    ),
    (
        "a: [",
        1,
        "this is not YAML: expected the node content, but found '<stream end>'",
    ),
    (
        "core:\n  host: a\n  host: b\n",
        3,
        "core.host is defined twice (first at deploy/inventory.yml:2)",
    ),
    (
        "- core\n",
        1,
        "an inventory must be a mapping of keys to values, not a list",
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
        "core.ports.grafana: port 8000 is already used by core.ports.backend",
    ),
    (
        "core:\n  ports:\n    backend: 3000\n",
        3,
        "core.ports.backend: port 3000 is already used by core.ports.grafana",
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
        "workers must be a mapping of keys to values, not a list",
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
        "image is not an image name without a tag: 'Ktrdr'",
    ),
    (
        "secrets:\n  delivery: file\n",
        2,
        "secrets.delivery must be 'env' or 'tmpfs', not 'file'",
    ),
    (
        "secrets:\n  source: x\n",
        2,
        "secrets.source must be '1password', 'age', 'sops', 'environment' or 'command', not 'x'",
    ),
    (
        "secrets:\n  vault: x\n  source: sops\n",
        3,
        "secrets.source sops needs secrets.file as well",
    ),
    (
        "secrets:\n  source: command\n",
        2,
        "secrets.source command needs secrets.command as well",
    ),
    (
        "secrets:\n  command: bw get\n",
        2,
        "secrets.command must be a list, not text",
    ),
    (
        "secrets:\n  fields:\n    x: {variable: A_KEY}\n",
        3,
        "secrets.fields.x.stacks is missing",
    ),
    (
        "secrets:\n  fields:\n    x: {variable: A_KEY, stacks: [cor]}\n",
        3,
        "secrets.fields.x.stacks.0 must be 'core' or 'workers', not 'cor'",
    ),
    (
        "secrets:\n  fields:\n    x: {variable: A_KEY, stacks: [], varable: A}\n",
        3,
        "secrets.fields.x.varable is not a known key; did you mean variable?",
    ),
    (
        "secrets:\n  fields:\n    DB_password: {variable: A_KEY, stacks: []}\n",
        3,
        "secrets.fields.DB_password: db_password is already a field: db_password",
    ),
    (
        "secrets:\n  fields:\n    x: &x {variable: A_KEY, stacks: [core]}\n    y: *x\n",
        3,
        "secrets.fields.y.variable: A_KEY is already used by secrets.fields.x.variable",
    ),
    (
        "hooks:\n  secrets: [jwt_secrets]\n",
        2,
        "hooks.secrets: no field is called 'jwt_secrets'; did you mean jwt_secret?",
    ),
    (
        "workers: {'B C': }",
        1,
        "workers.B C is not a name of letters, digits and inner hyphens: 'B C'",
    ),
    (
        "domain: !!python/name:os.system ''",
        1,
        "could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'",
    ),
]


@pytest.mark.parametrize(("text", "line", "reason"), WRONG)
def test_a_wrong_inventory_is_refused_with_file_line_and_reason(read, text, line, reason):
    with pytest.raises(ConfigurationError) as error:
        read(text)

    assert error.value.message == f"deploy/inventory.yml:{line}: {reason}"
    assert error.value.exit_code == 3


def test_several_errors_are_counted_and_the_first_line_is_named(read):
    with pytest.raises(ConfigurationError, match=r"yml:2: core\.hots .* \(and 1 more\)$"):
        read("core:\n  hots: a\nworkers:\n  B: {scale: 9}\n")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"the inventory .*/none\.yml does not exist"):
        load_inventory(tmp_path / "none.yml")


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "inventory.yml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_inventory(path)


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


def test_a_variable_without_a_key_is_refused_and_the_nearest_is_suggested(read):
    with pytest.raises(ConfigurationError, match="did you mean KTRDR_INVENTORY_CORE_HOST"):
        read("", environ={"KTRDR_INVENTORY_CORE_HOTS": "x"})


def test_an_invalid_override_is_named(read):
    text = "core: {ports: {grafana: 3000}}"
    with pytest.raises(ConfigurationError, match=r"^--set core\.ports\.grafana: .* not text$"):
        read(text, settings=["core.ports.grafana=x"])
    with pytest.raises(ConfigurationError, match=r"^KTRDR_INVENTORY_CORE_PORTS_NFS: "):
        read(text, environ={"KTRDR_INVENTORY_CORE_PORTS_NFS": "3000"})


@pytest.mark.parametrize("setting", ["core.host", "=x"])
def test_an_option_without_key_or_value_is_refused(read, setting):
    with pytest.raises(ConfigurationError, match="the form KEY=VALUE"):
        read("", settings=[setting])


def test_paths_of_secrets_are_relative_to_the_inventory(read, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    secrets = "secrets: {source: age, file: secrets.age, identity: ~/key.txt}"

    assert read(secrets).secrets.file == str(tmp_path / "secrets.age")
    assert read(secrets).secrets.identity == "/home/ann/key.txt"
    elsewhere = read(secrets, settings=["secrets.file=/srv/x.age", "secrets.identity=~no-one/x"])
    assert elsewhere.secrets.file == "/srv/x.age"
    assert elsewhere.secrets.identity == str(tmp_path / "~no-one/x")


def test_a_program_with_a_path_is_relative_to_the_inventory(read, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")

    def command(words):
        return tuple(read(f"secrets: {{source: command, command: {words}}}").secrets.command)

    assert command("[./get, ./x]") == (str(tmp_path / "get"), "./x")
    assert command("[~/bin/get]") == ("/home/ann/bin/get",)
    assert command("[bw, get]") == ("bw", "get")


@pytest.mark.parametrize("empty", ["", "''"])
def test_the_vault_may_be_empty(read, empty):
    assert read(f"secrets: {{vault: {empty}}}").secrets.vault is None
    assert read("", environ={"KTRDR_INVENTORY_SECRETS_VAULT": ""}).secrets.vault is None
    assert read("", settings=[f"secrets.vault={empty}"]).secrets.vault is None


def test_further_fields_are_known_to_hooks(read):
    text = "secrets: {fields: {broker_api_key: {variable: BROKER_API_KEY, stacks: [workers]}}}\n"
    inventory = read(text + "hooks: {secrets: [broker_api_key, ghcr_token]}\n")

    assert inventory.secrets.field_names[-1] == "broker_api_key"
    assert list(inventory.hooks.secrets) == ["broker_api_key", "ghcr_token"]


def test_a_further_field_can_be_added_by_an_option(read):
    settings = ["secrets.fields={x: {variable: A_KEY, stacks: [core, workers]}}"]

    assert read("", settings=settings).secrets.fields["x"].variable == "A_KEY"
    fields = read("", settings=[*settings, "secrets.fields.x.variable=B_KEY"]).secrets.fields
    assert fields["x"].variable == "B_KEY"


def variables_in_use(root):
    """Return the variables that KTRDR's containers, compose files and scripts use."""
    names = {
        field.upper()
        for settings in (BackendSettings, WorkerSettings)
        for field in settings.model_fields
    }
    for name in ("core", "workers"):
        for file in (f"docker-compose.{name}.yml", f"deploy/tmpfs/{name}.yml", f".env.{name}"):
            text = (root / file).read_text(encoding="utf-8")
            names |= set(re.findall(r"\$\{([A-Z]\w*)|^ *([A-Z]\w*)[:=]", text, re.MULTILINE))
    for script in (root / "ktrdr/deployment").rglob("*.sh"):
        if script.name.startswith("prepare"):
            continue  # `ktrdr host prepare` reads no secrets.
        text = script.read_text(encoding="utf-8")
        names |= set(re.findall(r"\b([A-Z][A-Z0-9_]+)=", text))
    flat = {part for name in names for part in ([name] if isinstance(name, str) else name) if part}
    # Scripts that receive no secrets use these; the last is an option of psql.
    flat -= {"FOLLOW_SECONDS", "PIECE_BYTES", "ROOT_FORMAT", "OPEN_BY_HANDLE", "ON_ERROR_STOP"}
    return flat


OF_SYSTEMS = (
    *("PATH", "HOME", "IFS", "ENV", "SHELL", "USER", "PWD", "LANG", "TZ", "TMPDIR", "HOSTNAME"),
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "BASH_ENV", "LC_ALL", "PYTHONPATH"),
    *("PYTHON_GIL", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF"),
    *("DOCKER_HOST", "DOCKER_AUTH_CONFIG", "COMPOSE_FILE", "GIT_DIR", "SSH_AUTH_SOCK", "PGHOST"),
    *("OMP_NUM_THREADS", "UVICORN_PORT", "WEB_CONCURRENCY", "KTRDR_ANYTHING", "DB_PASSWORD_FILE"),
    *("DB_PASSWORD_VERIFIER", "JWT_SECRET_PREVIOUS", "broker_api_key", "1_KEY", "A-KEY", "A_KEY "),
)


def test_no_variable_that_a_container_depends_on_can_hold_a_further_field(read, root):
    for name in {*variables_in_use(root), *OF_SYSTEMS}:
        text = f"secrets: {{fields: {{x: {{variable: '{name}', stacks: [core]}}}}}}"
        with pytest.raises(ConfigurationError, match=r"secrets\.fields\.x\.variable must") as error:
            read(text)
        assert error.value.message.startswith("deploy/inventory.yml:1: "), name


@pytest.mark.parametrize(
    "name", ["BROKER_API_KEY", "APCA_API_SECRET_KEY", "SENTRY_DSN", "S3_KEY", "OTEL_HEADERS_X"]
)
def test_other_variables_can_hold_a_further_field(read, name):
    text = f"secrets: {{fields: {{x: {{variable: {name}, stacks: [core]}}}}}}"
    assert read(text).secrets.fields["x"].variable == name


def test_a_variable_chooses_another_secret_source(read):
    environ = {"KTRDR_INVENTORY_SECRETS_SOURCE": "environment"}

    inventory = read("secrets: {source: age, file: x}", environ=environ)
    assert inventory.secrets.source == "environment"


def test_an_override_that_yaml_reads_as_an_invalid_date_is_text(read):
    assert read("", settings=["core.host=2026-99-99"]).core.host == "2026-99-99"


@pytest.mark.parametrize("text", ["{1: }", "[" * 1000, '"\\UFFFFFFFF"', "!!int ''"])
def test_an_override_that_yaml_cannot_read_is_text_or_refused(read, text):
    with pytest.raises(ConfigurationError, match=r"^--set core"):
        read("", settings=[f"core.host={text}"])


def test_an_override_reads_node_names_as_the_file_does(read):
    assert list(read("", settings=["workers={N: , 1: }"]).workers) == ["N", "1"]


_KEYS = st.text(max_size=12) | st.sampled_from(
    ["core", "core.host", "core.host.x", "core.ports.nfs", "workers", "workers.B", "secrets"]
)
_VALUES = st.text(max_size=20) | st.from_regex(r"[\[\]{}:,&*!<>|\"'\\ a-z0-9=~.-]*", fullmatch=True)


@settings(deadline=None)
@given(st.lists(st.tuples(_KEYS, _VALUES), max_size=3))
def test_all_overrides_give_an_inventory_or_an_error(given_values):
    environ = {
        f"KTRDR_INVENTORY_{key.replace('.', '_').upper()}": value for key, value in given_values
    }
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "inventory.yml"
        path.write_text("workers: {B: }\n", encoding="utf-8")
        for overrides in ({"environ": environ}, {"settings": map("=".join, given_values)}):
            try:
                message = repr(load_inventory(path, **overrides))
            except ConfigurationError as error:
                message = error.message
            assert message


@settings(deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"[a-z0-9_.:@%\[\]/-]{1,20}", fullmatch=True))
def test_a_valid_host_name_is_no_option_of_ssh(name):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "inventory.yml"
        path.write_text(yaml.safe_dump({"core": {"host": name}}), encoding="utf-8")
        try:
            host = load_inventory(path).core.host
        except ConfigurationError:
            return
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", host)


@settings(deadline=None)
@given(st.text(max_size=80) | st.from_regex(r"(core|workers|domain): ?[\[\{\]\}:,\- a-z0-9]*\n"))
def test_all_texts_give_an_inventory_or_an_error_that_names_the_file(text):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "inventory.yml"
        path.write_text(text, encoding="utf-8")
        try:
            message = repr(load_inventory(path, shown_as="inventory.yml"))
        except ConfigurationError as error:
            message = error.message
    assert message.startswith(("Inventory(", "inventory.yml:", "the inventory inventory.yml"))


def test_the_committed_inventory_is_valid_and_uses_defaults(root):
    inventory = load_inventory(root / "deploy/inventory.yml")

    assert list(inventory.workers) == ["B", "C"]
    assert inventory.core.host == "backend.ktrdr.home.mynerd.place"


def test_the_committed_inventory_documents_every_key_with_its_default(root):
    parts = (
        Inventory, Core, HookSettings, Ports, PrepareSettings, SecretSettings, WorkerNode,
    )  # fmt: skip
    keys = {key for part in parts for key in part.model_fields}
    commented_out = re.compile(rf"^( *)# ( *)({'|'.join(keys)}):", re.MULTILINE)
    text = (root / "deploy/inventory.yml").read_text(encoding="utf-8")
    whole = yaml.safe_load(commented_out.sub(r"\1\2\3:", text))

    assert whole.keys() == Inventory.model_fields.keys()
    assert whole["core"].keys() == Core.model_fields.keys()
    assert whole["core"]["ports"] == Ports().model_dump()
    assert whole["secrets"].keys() == SecretSettings.model_fields.keys()
    assert SecretSettings.model_validate(whole["secrets"]) == SecretSettings(command=[])
    assert HookSettings.model_validate(whole["hooks"]) == HookSettings(environment=[], secrets=[])
    assert PrepareSettings.model_validate(whole["prepare"]) == PrepareSettings(people=[])
    node = whole["workers"]["B"]
    assert node.keys() == WorkerNode.model_fields.keys()
    WorkerNode.model_validate(node)


def test_the_committed_inventory_is_the_template_with_the_defaults(root):
    text = (root / "deploy/inventory.yml").read_text(encoding="utf-8")

    assert render_template(**OPTIONS) == text


def test_a_filled_in_template_without_changes_is_the_default_inventory():
    text = render_template(**OPTIONS)

    assert parse_inventory(text, shown_as="new") == parse_inventory(
        "workers: {B: , C: }", shown_as="short"
    )


@pytest.mark.parametrize(
    ("source", "file"),
    [("age", "secrets.age"), ("sops", "secrets.sops.yaml"), ("environment", None)],
)
def test_the_template_names_the_file_of_an_encrypted_source(source, file):
    text = render_template(**OPTIONS | {"secret_source": source})

    secrets = parse_inventory(text, shown_as="new").secrets
    assert (secrets.source, secrets.file) == (source, file)


_LINES = st.text(min_size=1, max_size=20)
_NAMES = _LINES | st.sampled_from(["B", "N", "1", "no", "null", "1.5", "0x1", "~", "2026-11-24"])


@example(domain="d", host="h", user="u\u2028v", nodes=["B"])
@example(domain="d", host="h", user="v\x85", nodes=["B"])
@example(domain="d\nx: y", host="h", user="u", nodes=["B\n  C"])
@settings(deadline=None)
@given(domain=_NAMES, host=_NAMES, user=_LINES, nodes=st.lists(_NAMES, min_size=1, max_size=3))
def test_values_in_the_template_are_read_back_unchanged_or_refused(domain, host, user, nodes):
    changes = {"domain": domain, "core_host": host, "registry_user": user, "nodes": nodes}
    try:
        inventory = parse_inventory(render_template(**OPTIONS | changes), shown_as="new")
    except ConfigurationError:
        return
    assert (inventory.domain, inventory.core.host) == (domain.lower(), host.lower())
    assert inventory.core.ssh_host == host
    assert inventory.registry_user == user
    assert list(inventory.workers) == nodes


# -------------------------------------------------------------------------- nodes that differ


def test_host_names_are_in_lower_case_except_for_ssh(read):
    inventory = read("domain: Lab.Test\ncore: {host: Core.lan}\nworkers: {B: {host: Box.lan}, C: }")

    core, box, default = inventory.core, inventory.workers["B"], inventory.workers["C"]
    assert (core.host, box.host, default.host) == ("core.lan", "box.lan", "workers-c.lab.test")
    assert (core.ssh_host, box.ssh_host) == ("Core.lan", "Box.lan")
    assert (inventory.domain, inventory.api_url) == ("lab.test", "http://core.lan:8000")


def test_hosts_may_have_another_name_for_ssh(read):
    inventory = read("workers: {B: {host: 10.0.0.5, ssh_host: pve-b}}")

    assert (inventory.workers["B"].host, inventory.workers["B"].ssh_host) == ("10.0.0.5", "pve-b")


def test_a_name_for_ssh_may_end_in_a_number(read):
    assert read("workers: {B: {host: b.lan, ssh_host: pve.3}}").workers["B"].ssh_host == "pve.3"


def test_the_numbers_of_workers_differ_by_type(read):
    nodes = read(
        "workers: {B: {backtest: 2, training: 0}, C: {scale: 2, training: 1}, D: }"
    ).workers

    assert nodes["B"].counts == {"backtest": 2, "training": 0}
    assert nodes["C"].counts == {"backtest": 2, "training": 1}
    assert nodes["D"].counts == {"backtest": 1, "training": 1}


NODE_ERRORS = [
    ("backtest: 4", "workers.B.backtest must be at most 3, not 4"),
    ("training: -1", "workers.B.training must be at least 0, not -1"),
    ("training: yes", "workers.B.training must be a whole number, not true or false"),
    (
        "{backtest: 0, training: 0}",
        (
            "workers.B has no workers: give it some, or remove its stack with `ktrdr deploy down "
            "workers B` and then its entry"
        ),
    ),
    ("backtest_memory: 3 GB", "workers.B.backtest_memory is not an amount of memory such as 512m"),
    ("backtest_memory: 511m", "workers.B.backtest_memory is not an amount of memory such as 512m"),
    ("backtest_memory: 0g", "workers.B.backtest_memory is not an amount of memory such as 512m"),
    ("training_memory: 5", "workers.B.training_memory must be text, not a number"),
    ("training_cpus: 0", "workers.B.training_cpus must be at least 0.1, not 0"),
    ("training_cpus: .nan", "workers.B.training_cpus must be at"),
    ("training_cpus: .inf", "workers.B.training_cpus must be at most 512"),
    ("training_cpus: two", "workers.B.training_cpus must be a number, not text"),
    ("skip_unreachable: 1", "workers.B.skip_unreachable must be true or false, not a number"),
    ("tags: gpu", "workers.B.tags must be a list, not text"),
    ("tags: [a b]", "workers.B.tags.0 is not a tag such as gpu: 'a b'"),
    ("environment: [A=1]", "workers.B.environment must be a mapping of keys to values, not a list"),
    ("environment: {A: 1}", "workers.B.environment.A must be text, not a number"),
    ("environment: {A-B: x}", "workers.B.environment.A-B is not the name of a variable: 'A-B'"),
    (
        "environment: {DB_HOST: x}",
        "workers.B.environment.DB_HOST is a variable that KTRDR sets itself: 'DB_HOST'",
    ),
    (
        "environment: {BROKER_API_KEY: hunter2}",
        (
            "workers.B.environment.BROKER_API_KEY looks like the name of a secret, which belongs "
            "into the vault: 'BROKER_API_KEY'"
        ),
    ),
    (
        "environment: {PROXY: 'http://ann:hunter2@proxy:8080'}",
        "workers.B.environment.PROXY looks like a secret, which belongs into the vault",
    ),
    (
        'environment: {A: "hunter2\\n"}',
        "workers.B.environment.A is not one line of at most 4096 characters",
    ),
    ("host: ssh host", "workers.B.host is not a host name: 'ssh host'"),
    # Workers would register under another address, which URLs give these.
    ("host: 192.168.001.010", "workers.B.host is not an IPv4 address: '192.168.001.010'"),
    ("host: '10.3'", "workers.B.host is not an IPv4 address: '10.3'"),
    ("host: box.0x7f", "workers.B.host is not an IPv4 address: 'box.0x7f'"),
    ("ssh_host: -oProxyCommand=x", "workers.B.ssh_host is not a host name: '-oProxyCommand=x'"),
]


@pytest.mark.parametrize(("entry", "message"), NODE_ERRORS)
def test_an_impossible_node_is_refused_with_its_line(read, entry, message):
    text = entry if entry.startswith("{") else f"{{{entry}}}"
    with pytest.raises(ConfigurationError) as raised:
        read(f"domain: a.test\nworkers:\n  B: {text}\n")

    assert raised.value.message.startswith(f"deploy/inventory.yml:3: {message}")
    assert "hunter2" not in raised.value.message


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PASSWORD",
            "PGPASSWORD",
            "DBPASSWD",
            "brokerToken",
            "SECRET_2",
            "API_KEY",
            "AWS_ACCESS_KEY",
        ),
        *("APIKEY", "AWS_CREDENTIALS", "SENTRY_DSN", "SSH_PASS", "BASIC_AUTH", "SESSION_COOKIE"),
        *("LOG_LEVEL", "PATH", "WORKER_ID", "KTRDR_API_URL", "DB_PASSWORD_FILE", "IMAGE_TAG_FILE"),
        "CHILD_VARIABLES",
    ],
)
def test_variables_that_are_ours_or_may_be_secret_are_refused(read, name):
    with pytest.raises(ConfigurationError, match=rf"workers\.B\.environment\.{name} "):
        read(f"workers: {{B: {{environment: {{{name}: x}}}}}}")


@pytest.mark.parametrize(
    "value", ["ghp_abc", "github_pat_11A", "eyJhbGciOi", "sk-live", "AKIAIOSFODNN7", "ftp://t@host"]
)
def test_values_that_look_like_secrets_are_refused(read, value):
    with pytest.raises(ConfigurationError, match="looks like a secret"):
        read(f"workers: {{B: {{environment: {{A: '{value}'}}}}}}")


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "LEASE_S", "OTEL_SERVICE_NAME", "http_proxy", "KEYBOARD"]
)
def test_other_variables_are_accepted(read, name):
    node = read(f"workers: {{B: {{environment: {{{name}: 'http://x:1'}}}}}}").workers["B"]

    assert node.environment == {name: "http://x:1"}


def test_every_variable_that_the_compose_files_and_the_image_set_is_refused(read, root):
    services = yaml.safe_load((root / "docker-compose.workers.yml").read_text())["services"]
    tmpfs = re.findall(
        r"^    (\w+):", (root / "deploy/tmpfs/workers.yml").read_text(), re.MULTILINE
    )
    image = re.findall(
        r"^(?:ENV| {4})\s*(\w+)=", (root / "deploy/Dockerfile").read_text(), re.MULTILINE
    )
    names = {name for each in services.values() for name in each["environment"]}
    ours = names | {name for name in tmpfs if name.isupper()} | {"PATH", "PYTHONPATH"} & {*image}
    assert len(ours) > 15
    for name in sorted(ours):
        with pytest.raises(ConfigurationError, match=r"looks like|KTRDR sets itself"):
            read(f"workers: {{B: {{environment: {{{name}: x}}}}}}")


@pytest.mark.parametrize("name", ["BROKER_ACCOUNT", "BROKER_ACCOUNT_FILE"])
def test_a_variable_of_a_node_cannot_be_that_of_a_secret(read, name):
    text = (
        "secrets: {fields: {broker: {variable: BROKER_ACCOUNT, stacks: [STACK]}}}\n"
        f"workers:\n  B:\n    environment:\n      OTHER: x\n      {name}: x\n"
    )
    with pytest.raises(ConfigurationError) as raised:
        read(text.replace("STACK", "workers"))
    assert str(raised.value).endswith(
        f":6: workers.B.environment.{name}: {name} is already used by "
        "secrets.fields.broker.variable"
    )
    assert read(text.replace("STACK", "core")).workers["B"].environment[name] == "x"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("{host: Box.lan}", "workers.C.host: box.lan is already the host of workers.B.host"),
        ("{ssh_host: box.LAN}", "workers.C.ssh_host: box.LAN is already the host of"),
    ],
)
def test_two_nodes_cannot_be_one_host(read, second, message):
    with pytest.raises(ConfigurationError) as raised:
        read(f"workers:\n  B: {{host: box.lan, ssh_host: box.LAN}}\n  C: {second}\n")

    assert raised.value.message.startswith(f"deploy/inventory.yml:3: {message}")


def test_variables_and_numbers_of_a_node_can_be_overridden(read):
    inventory = read(
        "workers: {B: {environment: {A: x}}}",
        settings=["workers.B.environment.B_2=y", "workers.B.training=0", "workers.B.tags=[gpu]"],
        environ={"KTRDR_INVENTORY_WORKERS_B_SKIP_UNREACHABLE": "true"},
    )

    node = inventory.workers["B"]
    assert node.environment == {"A": "x", "B_2": "y"}
    assert node.tags == ["gpu"]
    assert (node.counts["training"], node.skip_unreachable) == (0, True)
