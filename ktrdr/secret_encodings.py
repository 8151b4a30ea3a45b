"""Encodings in which programs write a text: quoted, escaped, base64, URL-encoded."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import Final

# `base64` of GNU coreutils wraps its lines here.
_BASE64_LINE: Final = 76
# Characters that encoders leave alone besides letters, digits and `_.-~`: Python's `quote`, its
# strict form, JavaScript's encodeURIComponent, Go's user part of a URL.
_URL_SAFE: Final = ("/", "", "!'()*", "$&+,;=")


def encodings_of(text: str) -> set[str]:
    """Return all encodings, except base64, of a text in the output of programs.

    Quotation marks around the text are left out. Only the text between them matters.
    """
    # Compose doubles the dollar sign when it prints a configuration.
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


def base64_encodings_of(raw: bytes) -> set[bytes]:
    """Return the parts of base64 texts that depend on ``raw`` alone, not on its neighbours."""
    encodings: set[bytes] = set()
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + raw).rstrip(b"=")
        # A character has six bits. Those with bits of a neighbour are unknown.
        start = -(-lead * 8 // 6)
        end = (lead + len(raw)) * 8 // 6
        encodings.add(encoded[start:end])
    # The value alone, as one text and as the full lines that `base64` prints.
    whole = base64.b64encode(raw)
    lines = (whole[start : start + _BASE64_LINE] for start in range(0, len(whole), _BASE64_LINE))
    encodings |= {whole, *(line for line in lines if len(line) == _BASE64_LINE)}
    return encodings | {text.replace(b"+", b"-").replace(b"/", b"_") for text in encodings}


def _in_shells(text: str) -> Iterator[str]:
    # Python's shlex.quote and dash; bash's trace; bash's `declare -p`; `printf %q`.
    yield text.replace("'", "'\"'\"'")
    yield text.replace("'", "'\\''")
    yield re.sub(r'(["$\\`])', r"\\\1", text)
    yield re.sub(r"""([][ \t\n'"\\|&;()<>!{}*?^$`,]|(?:^|(?<=[:=]))[#~])""", r"\\\1", text)


def _in_yaml(text: str) -> Iterator[str]:
    # YAML and SQL double their quotes. Double-quoted YAML is almost JSON.
    yield text.replace("'", "''")
    for ascii_only in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        # Go, and with it Docker, also escapes characters with a meaning in HTML.
        yield re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", escaped)


def _in_python(text: str) -> Iterator[str]:
    raw = text.encode("utf-8", "surrogatepass")
    # The double quote in front makes repr choose single quotes, and escape them in the text.
    for body in (repr('"' + text)[2:-1], ascii('"' + text)[2:-1], repr(b'"' + raw)[3:-1]):
        yield body
        yield body.replace("\\'", "'")


def _in_urls(text: str) -> Iterator[str]:
    for safe in _URL_SAFE:
        encoded = urllib.parse.quote(text, safe=safe, errors="surrogatepass")
        for text_form in (encoded, encoded.replace("%20", "+")):
            yield text_form
            yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), text_form)
