"""Inventory of pyinfra: the hosts of the inputs, with the vault read once for all."""

import base64
import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_INPUTS = Path(os.environ["BENCH_INPUTS"])
_HOSTS = json.loads((_INPUTS / "inputs.json").read_text())


def _read_vault() -> dict[str, str]:
    command = ["op", "item", "get", os.environ["BENCH_ITEM"], "--vault", os.environ["BENCH_VAULT"]]
    output = subprocess.run([*command, "--format", "json"], check=True, capture_output=True).stdout
    fields = json.loads(output)["fields"]
    return {field["label"]: field["value"] for field in fields if "value" in field}


def _exports(host_inputs: Any, fields: Mapping[str, str]) -> list[str]:
    login = f"{host_inputs['registry_user']}:{fields['ghcr_token']}".encode()
    auths = {host_inputs["registry"]: {"auth": base64.b64encode(login).decode()}}
    values = {
        **host_inputs["settings"],
        **{name: fields[field] for name, field in host_inputs["secrets"].items()},
        "DOCKER_AUTH_CONFIG": json.dumps({"auths": auths}),
    }
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]


def _password_statement(fields: Mapping[str, str]) -> str:
    quoted = fields["db_password"].replace("'", "''")
    return f"ALTER ROLE CURRENT_USER PASSWORD '{quoted}';"


_fields = _read_vault()
hosts = [
    (
        host_inputs["name"],
        {
            "ssh_config_file": os.environ["KTRDR_SSH_CONFIG"],
            # pyinfra does not support HostKeyAlias; this file has the keys by address.
            "ssh_known_hosts_file": os.environ["BENCH_KNOWN_HOSTS"],
            "ssh_strict_host_key_checking": "yes",
            "inputs": str(_INPUTS / key),
            "host_inputs": host_inputs,
            "exports": _exports(host_inputs, _fields),
            "password": _password_statement(_fields),
        },
    )
    for key, host_inputs in _HOSTS.items()
]
