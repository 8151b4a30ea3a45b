"""Search for secrets in argument lists, files and output.

Independent of `ktrdr.secret.Scrubber` on purpose: a search with the same code would have the same
blind spots.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# Program of the sampler process. It sees the processes of all nodes, because they are containers on
# this machine. It prints its findings when its standard input closes.
_SAMPLER = """
import base64, json, os, select, sys, time

def clear(hidden):
    return bytes(b ^ 0x55 for b in base64.b64decode(hidden))

needles = {name: [clear(v) for v in forms] for name, forms in json.loads(sys.argv[1]).items()}
found, samples, longest, last = {}, 0, 0.0, time.monotonic()
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.002)[0]:
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    line = file.read()
            except OSError:
                continue
            for name, forms in needles.items():
                if any(form in line for form in forms):
                    found.setdefault(name, line[:80].decode(errors="replace").split(chr(0))[0])
    now = time.monotonic()
    samples, longest, last = samples + 1, max(longest, now - last), now
print(json.dumps({"found": found, "samples": samples, "longest_gap_s": longest}))
"""


def forms_of(value: str) -> set[bytes]:
    """Return the plain value, and its quoted and encoded forms."""
    raw = value.encode()
    return {
        raw,
        shlex.quote(value).encode(),
        value.replace("'", "'\\''").encode(),
        urllib.parse.quote(value, safe="").encode(),
        urllib.parse.quote(value).encode(),
        urllib.parse.quote_plus(value).encode(),
        json.dumps(value)[1:-1].encode(),
        json.dumps(value, ensure_ascii=False)[1:-1].encode(),
        _json_of_go(value).encode(),
        repr(value)[1:-1].encode(),
        value.replace("$", "$$").encode(),
        *_base64_cores(raw),
    }


def _json_of_go(value: str) -> str:
    """Encode as JSON like Docker, Compose and Prometheus: safe in a web page."""
    text = json.dumps(value, ensure_ascii=False)[1:-1]
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _base64_cores(raw: bytes) -> set[bytes]:
    """Return the parts of a base64 text that do not depend on the text around the value."""
    cores = set()
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + raw)
        start = -(-lead * 4 // 3)
        whole = (lead + len(raw)) // 3 * 4
        core = encoded[start:whole]
        if len(core) >= 8:
            cores |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return cores


def leaks_in(data: bytes | str, secrets: Mapping[str, str]) -> list[str]:
    """Return the names of the secrets that ``data`` contains in any form."""
    raw = data.encode() if isinstance(data, str) else data
    return [name for name, value in secrets.items() if any(f in raw for f in forms_of(value))]


def leaks_in_files(
    roots: Iterable[Path], secrets: Mapping[str, str], *, leave_out: Iterable[str] = ()
) -> list[str]:
    """Return ``name in path`` for every file below the roots that contains a secret.

    Args:
        roots: Directories to search.
        secrets: Secrets by name.
        leave_out: Prefixes of paths to skip.
    """
    found, left_out = [], tuple(leave_out)
    for root in roots:
        for path in sorted(root.rglob("*")):
            if str(path).startswith(left_out) or path.is_symlink() or not path.is_file():
                continue
            # A file may be removed meanwhile.
            with contextlib.suppress(FileNotFoundError):
                found += [f"{name} in {path}" for name in leaks_in(path.read_bytes(), secrets)]
    return found


def leaks_on_disk(
    root: Path, secrets: Mapping[str, str], *, leave_out: Iterable[str] = ()
) -> list[str]:
    """Return ``name in path`` for every file of a whole file system that contains a secret.

    To search gigabytes, `grep` first finds the files that contain any single-line part of any form.
    Only those files are searched completely.

    Args:
        root: Root of the file system.
        secrets: Secrets by name.
        leave_out: Directories directly below the root that are not on disk.
    """
    left_out = {"proc", "sys", "dev", *leave_out}
    places = [str(root / name.name) for name in sorted(root.iterdir()) if name.name not in left_out]
    parts = {
        max(re.split(rb"[\r\n]", form), key=len)
        for value in secrets.values()
        for form in forms_of(value)
    }
    assert all(len(part) >= 8 for part in parts), "shorter parts would be found everywhere"
    done = subprocess.run(
        ["grep", "-raFlZ", "-D", "skip", "-f", "-", *places],
        input=b"\n".join(parts),
        capture_output=True,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        check=False,
    )
    found = []
    for name in done.stdout.split(b"\0")[:-1]:
        path = Path(os.fsdecode(name))
        with contextlib.suppress(FileNotFoundError):
            found += [f"{secret} in {path}" for secret in leaks_in(path.read_bytes(), secrets)]
    return found


@dataclass(frozen=True)
class Sampled:
    """Findings of a sampler: location of each secret, number of samples, and gaps between them."""

    found: dict[str, str]
    samples: int
    longest_gap_s: float
    mean_gap_s: float


class CommandLineSampler:
    """Sampler that repeatedly reads the argument lists of all processes, in a separate process."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        # The sampler's own argument list must not contain the secrets.
        hidden = {
            name: [
                base64.b64encode(bytes(b ^ 0x55 for b in form)).decode()
                for form in sorted(forms_of(value))
            ]
            for name, value in secrets.items()
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SAMPLER, json.dumps(hidden)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        self._started = time.monotonic()

    def stop(self) -> Sampled:
        """Stop sampling; return the findings."""
        elapsed = time.monotonic() - self._started
        output, _ = self._process.communicate(timeout=30)
        seen = json.loads(output)
        return Sampled(
            seen["found"], seen["samples"], seen["longest_gap_s"], elapsed / max(seen["samples"], 1)
        )
