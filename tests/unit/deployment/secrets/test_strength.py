from __future__ import annotations

import math
import secrets
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.deployment.secrets.strength import ENOUGH_BITS, ENOUGH_BITS_OF_KEY, strength
from ktrdr.secret import Secret


def bits(value: str) -> float:
    return strength(Secret(value)).bits


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("k", math.log2(26)),
        ("q7", 2 * math.log2(36)),
        ("9f3b", 4 * 4),
        ("kW_r+9", 6 * math.log2(67)),
        ("kkkkkkkkkkkk", math.log2(26)),
        ("xqzxqzxqz", math.log2(26) * 4),
        ("73910123456", math.log2(10) * 5),
        ("xqfedcba", math.log2(26) * 3),
        ("xq-Password", math.log2(67) * 4),
        ("kö", math.log2(200) * 2),
    ],
)
def test_an_estimate_is_steps_times_the_bits_of_the_alphabet(value: str, expected: float) -> None:
    assert bits(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value",
    [
        "development-only-password",
        "development-only-jwt-secret-0123456789",
        "correctcorrectcorrect",
        "abcdefghijklmnopqrstuvwxyz",
        "Passw0rd!Passw0rd!",
        "changeme-changeme",
        "ktrdr-admin-2026",
        "11111111111111111111111111111111",
    ],
)
def test_what_a_guesser_tries_early_is_weak_and_it_is_said_why(value: str) -> None:
    found = strength(Secret(value))
    assert found.bits < ENOUGH_BITS
    assert found.weaknesses


def test_what_a_generator_makes_is_strong() -> None:
    for _ in range(200):
        assert bits(secrets.token_urlsafe(18)) >= ENOUGH_BITS
        assert bits(secrets.token_urlsafe(36)) >= ENOUGH_BITS_OF_KEY
        assert bits(secrets.token_hex(20)) >= ENOUGH_BITS_OF_KEY


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=10))
def test_any_text_has_a_strength_and_more_of_the_same_adds_little(value: str, more: str) -> None:
    assert bits(value) >= 0
    assert strength(Secret(value * 3)).bits <= bits(value) + 4 * math.log2(200)


def test_a_value_of_four_thousand_characters_is_measured_in_no_time() -> None:
    begun = time.perf_counter()
    for value in ("a" * 4000, "ab1" * 1500, secrets.token_hex(2000)):
        bits(value)
    assert time.perf_counter() - begun < 1
