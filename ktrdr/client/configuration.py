"""Which backend the commands talk to: environment first, then the configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from ktrdr.client.token_file import configuration_file, read_configuration
from ktrdr.errors import ConfigurationError

DEFAULT_API_URL: Final = "http://backend.ktrdr.home.mynerd.place:8000"


def api_url(environ: Mapping[str, str], *, default: str = DEFAULT_API_URL) -> str:
    """The backend's address: ``KTRDR_API_URL``, the file's ``api_url``, or the default.

    Raises:
        ConfigurationError: It is not an HTTP address.
    """
    path = configuration_file(environ)
    given = environ.get("KTRDR_API_URL") or read_configuration(path).get("api_url")
    url = str(given or default).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"{url!r} is not the address of a backend",
            hint="Set KTRDR_API_URL to something like http://backend:8000.",
        )
    return url
