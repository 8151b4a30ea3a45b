"""Secret values that never show themselves, and the scrubber that removes them from output."""

from __future__ import annotations

import base64
import itertools
import json
import re
import threading
import urllib.parse
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

REDACTED: Final = "•••"
# Shorter or blank values, and such lines of longer values, are not removed. They occur in ordinary
# text, which would become illegible and reveal them by its gaps.
MIN_SCRUBBED_LENGTH: Final = 4
# `base64` of GNU coreutils wraps its lines here.
_BASE64_LINE: Final = 76
# Characters that encoders leave alone besides letters, digits and `_.-~`: Python's `quote`, its
# strict form, JavaScript's encodeURIComponent, Go's user part of a URL.
_URL_SAFE: Final = ("/", "", "!'()*", "$&+,;=")

Span = tuple[int, int]

# Names of variables with secrets, also as keys of a printed dictionary. The value extends to the
# end of the line, because any character that could end it earlier may be a part of it.
_ASSIGNMENT: Final = re.compile(
    r"""((?<![A-Z0-9])(?:PASSWORD|SECRET|TOKEN)(?:_PREVIOUS|_VERIFIER)?['"]?[ ]*[=:][ ]*)(?=\S).+"""
)


def redact_assignments(text: str, names: Iterable[str] = ()) -> str:
    """Redact everything behind the name of a variable with a secret, to the end of its line.

    Use it for output of programs that have secrets which this process does not know: a `Scrubber`
    finds only those that it has learnt. It finds ``DB_PASSWORD=…`` and
    ``'JWT_SECRET_PREVIOUS': …``, but neither a value alone nor the further lines of a value with
    several. Further variables may be named.
    """
    for name in names:
        text = re.sub(rf"""(?<!\w)({name}['"]?[ ]*[=:][ ]*)(?=\S).+""", rf"\1{REDACTED}", text)
    return _ASSIGNMENT.sub(rf"\1{REDACTED}", text)


@final
class Secret:
    """Text value that only `reveal` shows.

    ``str``, ``repr``, ``format`` and tracebacks show ``•••``. JSON, YAML, pickle and
    ``shlex.quote`` refuse it. It is not a ``str``: passing it as text fails loudly instead of
    leaking quietly. It is immutable, so a copy of it is the same object.
    """

    __slots__ = ("_read",)
    _read: Callable[[], str]

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"a Secret contains text, not {type(value).__name__}")
        # In a function, so that code which walks over attributes finds no text.
        self._read = lambda: value

    def reveal(self) -> str:
        """Return the value. Call it as late as possible, and do not store the result."""
        return self._read()

    def __str__(self) -> str:
        return REDACTED

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __format__(self, format_spec: str) -> str:
        return format(REDACTED, format_spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(("Secret", self.reveal()))

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Secret cannot be pickled: reveal it explicitly where it must travel")


class Scrubber:
    """Filter that replaces known secrets in text, in all encodings in which programs write them.

    ``•••`` replaces every byte of an encoded secret, or of an encoded line of one. Overlapping
    encodings are replaced together. The caller chooses which values are secret, and should leave
    out a user name that is also a common word. Values that are blank or shorter than
    `MIN_SCRUBBED_LENGTH` are ignored.

    Safe to share between threads.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._learning = threading.Lock()
        self._secrets: frozenset[Secret] = frozenset()
        self._needles = _Needles.build(())
        self.learn(*secrets)

    def learn(self, *secrets: Secret) -> None:
        """Add secrets, also to open streams."""
        with self._learning:
            self._secrets = self._secrets.union(secrets)
            self._needles = _Needles.build(secret.reveal() for secret in self._secrets)

    def scrub(self, text: str) -> str:
        """Return the text without secrets."""
        stream = self.stream()
        clean = stream.feed(text.encode("utf-8", "surrogatepass")) + stream.finish()
        return clean.decode("utf-8", "surrogatepass")

    def stream(self) -> ScrubbingStream:
        """Return a scrubber of output that comes in pieces."""
        return ScrubbingStream(lambda: self._needles)


class ScrubbingStream:
    """Scrubber of a stream. It holds back only bytes that may be the beginning of a secret.

    The output does not depend on how the input is cut into pieces.
    """

    def __init__(self, needles: Callable[[], _Needles]) -> None:
        self._needles = needles
        self._pending = b""
        # Number of pending bytes that belong to a secret which was replaced already.
        self._covered = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, and return the bytes that are certain."""
        self._pending += data
        return self._release(self._needles().find_incomplete(self._pending))

    def finish(self) -> bytes:
        """Return the rest at the end of the stream."""
        return self._release(len(self._pending))

    def _release(self, until: int) -> bytes:
        if until == 0:
            return b""
        needles = self._needles()
        spans = needles.find_spans(self._pending)
        if self._covered:
            spans.append((0, self._covered))
        clean: list[bytes] = []
        position = 0
        for start, end in _merge(spans):
            if start >= until:
                break
            clean.append(self._pending[position:start])
            if start > 0 or not self._covered:
                clean.append(needles.mark)
            position = end
        clean.append(self._pending[position:until])
        self._pending = self._pending[until:]
        self._covered = max(0, position - until)
        return b"".join(clean)


@dataclass(frozen=True, slots=True)
class _Needles:
    """Byte strings to search for.

    Attributes:
        ordered: Sorted byte strings, for bisection.
        by_head: Byte strings by their common first bytes.
        first_bytes: First bytes of all.
        alphabet: Bytes that occur in any of them.
        longest: Length of the longest.
        mark: Replacement. None of its characters occurs in a needle, so that no replacement can
            complete another secret.
    """

    ordered: tuple[bytes, ...]
    by_head: Mapping[bytes, tuple[bytes, ...]]
    first_bytes: frozenset[int]
    alphabet: bytes
    longest: int
    mark: bytes

    @classmethod
    def build(cls, values: Iterable[str]) -> _Needles:
        needles: set[bytes] = set()
        for value in values:
            if _is_scrubbed(value):
                needles |= _base64_encodings_of(value.encode("utf-8", "surrogatepass"))
            lines = (line.strip() for line in re.split(r"[\r\n]+", value))
            for piece in filter(_is_scrubbed, {value, *lines}):
                needles |= {text.encode("utf-8", "surrogatepass") for text in _encodings_of(piece)}
        ordered = tuple(sorted(needles))
        groups = itertools.groupby(ordered, lambda needle: needle[:MIN_SCRUBBED_LENGTH])
        return cls(
            ordered=ordered,
            by_head={head: tuple(group) for head, group in groups},
            first_bytes=frozenset(needle[0] for needle in needles),
            alphabet=bytes(sorted(set(b"".join(needles)))),
            longest=max(map(len, needles), default=0),
            mark=_mark_absent_from(b"".join(needles).decode("utf-8", "surrogatepass")),
        )

    def find_spans(self, data: bytes) -> list[Span]:
        """Find all needles, including overlapping ones."""
        # A search for each head is faster than one regular expression. Most encodings of a value
        # have a common head, and so do values that are derived from it for many hosts.
        spans = []
        for head, group in self.by_head.items():
            start = data.find(head)
            while start >= 0:
                spans += [
                    (start, start + len(needle))
                    for needle in group
                    if data.startswith(needle, start)
                ]
                start = data.find(head, start + 1)
        return spans

    def find_incomplete(self, data: bytes) -> int:
        """Return where a needle may begin that further bytes complete."""
        # Output usually comes in whole lines, and few needles contain a line end.
        first = max(len(data.rstrip(self.alphabet)), len(data) - self.longest + 1)
        for start in range(first, len(data)):
            if data[start] in self.first_bytes and self._is_beginning(data[start:]):
                return start
        return len(data)

    def _is_beginning(self, tail: bytes) -> bool:
        # Sorted order puts needles that begin with the tail right after the tail itself.
        after = bisect_left(self.ordered, tail + b"\0")
        return after < len(self.ordered) and self.ordered[after].startswith(tail)


def _is_scrubbed(text: str) -> bool:
    return len(text) >= MIN_SCRUBBED_LENGTH and not text.isspace()


def _merge(spans: list[Span]) -> list[Span]:
    """Sort the spans, and join those that overlap."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _mark_absent_from(text: str) -> bytes:
    """Return ``•••``, or three of another character if a secret contains a bullet."""
    used = set(text)
    others = map(chr, range(0x2580, 0xD800))
    bullet = next(char for char in itertools.chain(REDACTED[0], others) if char not in used)
    return (bullet * len(REDACTED)).encode()


def _encodings_of(text: str) -> set[str]:
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


def _base64_encodings_of(raw: bytes) -> set[bytes]:
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
