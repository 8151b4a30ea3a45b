"""The lab's certificate authority, and the registry's certificate for `ghcr.io`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lab.config import STATE
from lab.shell import run

DIRECTORY: Final = STATE / "tls"
AUTHORITY: Final = DIRECTORY / "ca.crt"
CERTIFICATE: Final = DIRECTORY / "ghcr.io.crt"
KEY: Final = DIRECTORY / "ghcr.io.key"
_DAYS: Final = "3650"


def ensure() -> None:
    """Create the certificates once. Hosts trust the authority only for `ghcr.io`."""
    if all(path.exists() for path in (AUTHORITY, CERTIFICATE, KEY)):
        return
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    authority_key = DIRECTORY / "ca.key"
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", authority_key, "-out", AUTHORITY, "-days", _DAYS),
        *("-subj", "/CN=KTRDR lab"),
    )
    request = DIRECTORY / "ghcr.io.csr"
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", KEY, "-out", request, "-subj", "/CN=ghcr.io"),
    )
    names = DIRECTORY / "ghcr.io.ext"
    names.write_text("subjectAltName = DNS:ghcr.io, IP:127.0.0.1\n")
    _openssl(
        *("x509", "-req", "-in", request, "-CA", AUTHORITY, "-CAkey", authority_key),
        *("-CAcreateserial", "-days", _DAYS, "-extfile", names, "-out", CERTIFICATE),
    )


def _openssl(*arguments: str | Path) -> None:
    run("openssl", *map(str, arguments))
