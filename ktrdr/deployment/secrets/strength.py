"""How hard a value is to guess: an estimate in bits, with what makes it weak in words.

The measure, which docs/secrets.md states: the number of steps in a value, times the bits that one
character of its alphabet is worth. A known word is one step, and so is all that repeats what came
before (``aaaa``, ``abcabc``) or counts on (``4567``, ``fedc``). A value from a generator is worth
that much, one that a person made up less.
"""

from __future__ import annotations

import math
import string
from typing import Final, NamedTuple

from ktrdr.secret import Secret

# Out of reach where each guess is a login over the network, or costs PostgreSQL's 4,096 rounds.
ENOUGH_BITS: Final = 60
# Whoever has a token can try keys at home. The least that NIST SP 800-131A lets any key have.
ENOUGH_BITS_OF_KEY: Final = 112
# The sizes of alphabets; the first one that has all of a value's characters is taken to be its own.
_ALPHABETS: Final = tuple(
    (len(set(characters)), frozenset(characters))
    for characters in (
        string.digits,
        "0123456789abcdef",
        "0123456789ABCDEF",
        string.ascii_lowercase,
        string.ascii_uppercase,
        string.ascii_lowercase + string.digits,
        string.ascii_uppercase + string.digits,
        string.ascii_letters,
        string.ascii_letters + string.digits,
        # base64, in both spellings
        string.ascii_letters + string.digits + "+/-_=",
        string.ascii_letters + string.digits + string.punctuation + " ",
    )
)
_ANY: Final = 200
# What stands behind this adds nothing that matters.
_MEASURED: Final = 1000
_ONE_KIND: Final = 26
_SHORTEST_REPEAT: Final = 3
_SHORTEST_COUNT: Final = 4
# What is tried first everywhere, and what this repository publishes for development.
KNOWN_WORDS: Final = (
    "development-only",
    "changeme",
    "change_me",
    "password",
    "passwort",
    "passw0rd",
    "p@ssword",
    "p@ssw0rd",
    "postgres",
    "grafana",
    "example",
    "welcome",
    "letmein",
    "qwertyuiop",
    "qwertz",
    "qwerty",
    "asdfgh",
    "secret",
    "s3cret",
    "dragon",
    "monkey",
    "iloveyou",
    "homelab",
    "hunter2",
    "admin",
    "default",
    "token",
    "ktrdr",
    "test",
    "root",
)


class Strength(NamedTuple):
    """How strong a value is.

    Attributes:
        bits: The estimate; not for display, because it tells the length.
        weaknesses: What lowers it, each as the end of a sentence that begins with the field.
    """

    bits: float
    weaknesses: tuple[str, ...]


def strength(secret: Secret) -> Strength:
    """Estimates how hard a secret is to guess."""
    value = secret.reveal()[:_MEASURED]
    alphabet = _alphabet(value)
    steps = _steps(value)
    found = []
    if steps.words:
        found.append("holds a word that is tried first")
    if steps.foreseen * 2 > len(value):
        found.append("mostly repeats itself or counts")
    if alphabet <= _ONE_KIND:
        found.append("is of one kind of character alone")
    return Strength(steps.all * math.log2(alphabet), tuple(found))


def _alphabet(value: str) -> int:
    return next((size for size, known in _ALPHABETS if known.issuperset(value)), _ANY)


class _Steps(NamedTuple):
    """How many there are, how many of them are known words, how many characters are foreseen."""

    all: int
    words: int
    foreseen: int


def _steps(value: str) -> _Steps:
    lowered = value.lower()
    steps = words = foreseen = at = 0
    while at < len(value):
        word = next((word for word in KNOWN_WORDS if lowered.startswith(word, at)), "")
        run = 0 if word else max(_repeated(value, at), _counted(value, at))
        words += bool(word)
        foreseen += run
        steps += 1
        at += len(word) or run or 1
    return _Steps(steps, words, foreseen)


def _repeated(value: str, at: int) -> int:
    """How many characters from here on stand in the same order before, overlapping or not."""
    length = 0
    while at + length < len(value) and value.find(value[at : at + length + 1]) < at:
        length += 1
    return length if length >= _SHORTEST_REPEAT else 0


def _counted(value: str, at: int) -> int:
    """How many characters from here on go up or down by one, or stay the same."""
    if at + 1 >= len(value):
        return 0
    pace = ord(value[at + 1]) - ord(value[at])
    if abs(pace) > 1:
        return 0
    length = 2
    while (
        at + length < len(value) and ord(value[at + length]) - ord(value[at + length - 1]) == pace
    ):
        length += 1
    return length if length >= _SHORTEST_COUNT else 0
