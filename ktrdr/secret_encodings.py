"""The ways in which programs write one and the same text: quoted, escaped, encoded."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import Final

# `base64` of GNU coreutils breaks its lines here.
_BASE64_LINE: Final = 76
# What an encoder leaves as it is beside letters, digits and `_.-~`: Python's `quote`, its strict
# form, JavaScript's encodeURIComponent, Go's user part of a URL.
_URL_SAFE: Final = ("/", "", "!'()*", "$&+,;=")


def spellings(text: str) -> set[str]:
    """All the ways in which ``text`` may stand, unencoded or URL-encoded, in a program's output.

    Quotes around the whole are left out: what stands between them is what matters.
    """
    # Compose doubles the dollar sign in whatever it prints of a configuration.
    for_compose = text.replace("$", "$$")
    return {
        text,
        for_compose,
        *_in_shells(text),
        *_in_yaml(text),
        *_in_yaml(for_compose),
        *_in_python(text),
        *_in_urls(text),
    }


def base64_spellings(raw: bytes) -> set[bytes]:
    """The parts of base64 texts that come of ``raw`` alone, whatever stands before and after it."""
    found: set[bytes] = set()
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + raw).rstrip(b"=")
        # A character holds six bits: those that mix in a neighbour's bits cannot be known.
        start = -(-lead * 8 // 6)
        end = (lead + len(raw)) * 8 // 6
        found.add(encoded[start:end])
    found |= _whole_base64(raw)
    return found | {form.replace(b"+", b"-").replace(b"/", b"_") for form in found}


def _whole_base64(raw: bytes) -> set[bytes]:
    """The value by itself, as one text and as the lines that ``base64`` prints."""
    whole = base64.b64encode(raw)
    lines = (whole[at : at + _BASE64_LINE] for at in range(0, len(whole), _BASE64_LINE))
    return {whole, *(line for line in lines if len(line) == _BASE64_LINE)}


def _in_shells(text: str) -> Iterator[str]:
    # Python's shlex.quote and dash; bash's trace; bash's `declare -p`; `printf %q`.
    yield text.replace("'", "'\"'\"'")
    yield text.replace("'", "'\\''")
    yield re.sub(r'(["$\\`])', r"\\\1", text)
    yield re.sub(r"""([][ \t\n'"\\|&;()<>!{}*?^$`,]|(?:^|(?<=[:=]))[#~])""", r"\\\1", text)


def _in_yaml(text: str) -> Iterator[str]:
    # Doubled quotes are YAML's and SQL's; double-quoted YAML is JSON, near enough.
    yield text.replace("'", "''")
    for ascii_only in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield _as_go_writes_json(escaped)


def _as_go_writes_json(escaped: str) -> str:
    """Go, and with it Docker, also escapes what HTML gives a meaning."""
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", escaped)


def _in_python(text: str) -> Iterator[str]:
    raw = text.encode("utf-8", "surrogatepass")
    # The double quote in front settles which quotes repr chooses: single ones, escaped within.
    for body in (repr('"' + text)[2:-1], ascii('"' + text)[2:-1], repr(b'"' + raw)[3:-1]):
        yield body
        yield body.replace("\\'", "'")


def _in_urls(text: str) -> Iterator[str]:
    for safe in _URL_SAFE:
        encoded = urllib.parse.quote(text, safe=safe, errors="surrogatepass")
        for form in (encoded, encoded.replace("%20", "+")):
            yield form
            yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form)
