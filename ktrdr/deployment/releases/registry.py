"""Login at the registry that images are pulled from."""

from __future__ import annotations

import base64
import json
from typing import Final

from ktrdr.secret import Secret

# Compose reads the login from this variable, so that no file holds it.
REGISTRY_LOGIN: Final = "DOCKER_AUTH_CONFIG"


def registry_login(registry: str, user: str, token: Secret) -> Secret:
    """Return the value of ``DOCKER_AUTH_CONFIG`` for one registry."""
    login = f"{user}:{token.reveal()}".encode()
    auths = {registry: {"auth": base64.b64encode(login).decode()}}
    return Secret(json.dumps({"auths": auths}))
