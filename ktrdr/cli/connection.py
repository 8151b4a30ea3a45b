"""The backend that commands talk to, from environment and configuration file."""

from __future__ import annotations

import os

from ktrdr.client.backend import Backend
from ktrdr.client.configuration import api_url
from ktrdr.client.token_file import token_in_use


def backend() -> Backend:
    """A client for the configured backend, with the configured token.

    Raises:
        ConfigurationError: The address or the configuration file cannot be used.
        SecretsError: There is no token.
    """
    return Backend(api_url(os.environ), token_in_use(os.environ))
