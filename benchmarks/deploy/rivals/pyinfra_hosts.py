"""pyinfra's inventory: the kit's hosts, with the vault read once for all of them."""

import base64
import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_KIT = Path(os.environ["KIT"])
_DESCRIBED = json.loads((_KIT / "kit.json").read_text())


def _fields() -> dict[str, str]:
    asked = ["op", "item", "get", os.environ["KIT_ITEM"], "--vault", os.environ["KIT_VAULT"]]
    printed = subprocess.run([*asked, "--format", "json"], check=True, capture_output=True).stdout
    listed = json.loads(printed)["fields"]
    return {field["label"]: field["value"] for field in listed if "value" in field}


def _exports(described: Any, fields: Mapping[str, str]) -> list[str]:
    login = f"{described['registry_user']}:{fields['ghcr_token']}".encode()
    auths = {described["registry"]: {"auth": base64.b64encode(login).decode()}}
    values = {
        **described["settings"],
        **{name: fields[field] for name, field in described["secrets"].items()},
        "DOCKER_AUTH_CONFIG": json.dumps({"auths": auths}),
    }
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]


def _password(fields: Mapping[str, str]) -> str:
    quoted = fields["db_password"].replace("'", "''")
    return f"ALTER ROLE CURRENT_USER PASSWORD '{quoted}';"


_found = _fields()
hosts = [
    (
        it["name"],
        {
            "ssh_config_file": os.environ["KTRDR_SSH_CONFIG"],
            # It knows no HostKeyAlias; this file has the keys by address.
            "ssh_known_hosts_file": os.environ["KIT_KNOWN_HOSTS"],
            "ssh_strict_host_key_checking": "yes",
            "kit": str(_KIT / key),
            "described": it,
            "exports": _exports(it, _found),
            "password": _password(_found),
        },
    )
    for key, it in _DESCRIBED.items()
]
