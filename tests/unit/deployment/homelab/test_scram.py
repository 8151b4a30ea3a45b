"""Verifiers, held against libpq's own, which is what PostgreSQL and every client of ours use."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import pq

from ktrdr.deployment.homelab.scram import (
    make_verifier,
    make_verifier_with_salt,
    prepare_password,
)
from ktrdr.secret import Secret

KEY = Secret("a key of thirty-two characters ok")
# libpq knows newer characters than an older Python does: how those decompose is not compared.
characters = st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cn"])
passwords = st.one_of(
    st.text(characters, min_size=1, max_size=40),
    # Where SASLprep has something to say: spaces, what is mapped to nothing, both directions.
    st.text(
        st.sampled_from("a \u00a0\u00ad\u200b\u2003\ufeff\u05d0\u0627é\u0308ﬁⅣ日\u0340\ue000👍"),
        min_size=1,
        max_size=8,
    ),
)


def by_libpq(password: str) -> str:
    connection = pq.PGconn.connect_start(b"host=127.0.0.1 port=1")
    return connection.encrypt_password(password.encode(), b"u", b"scram-sha-256").decode()


@settings(deadline=None)
@given(password=passwords)
def test_a_verifier_is_the_one_that_libpq_makes_with_the_same_salt(password):
    theirs = by_libpq(password)
    salt = base64.b64decode(theirs.split("$")[1].partition(":")[2])
    assert make_verifier_with_salt(Secret(password), salt, 4096).reveal() == theirs


def test_the_same_password_has_the_same_verifier_and_another_one_another_salt():
    first = make_verifier(Secret("u"), Secret("one"), key=KEY)
    assert first == make_verifier(Secret("u"), Secret("one"), key=KEY)
    salts = {
        make_verifier(Secret(user), Secret(password), key=Secret(key)).reveal().split("$")[1]
        for user, password, key in (
            ("u", "one", KEY.reveal()),
            ("u", "two", KEY.reveal()),
            ("v", "one", KEY.reveal()),
            ("u", "one", KEY.reveal() + "!"),
        )
    }
    assert len(salts) == 4


@pytest.mark.parametrize(
    ("password", "meant"),
    [
        ("a\u00a0b", b"a b"),
        ("a\u00adb\u00e9", b"ab\xc3\xa9"),
        ("\u00ad", "\u00ad".encode()),
        ("\t\n", b"\t\n"),
        ("x\u05d0", "x\u05d0".encode()),
        ("👍", "👍".encode()),
    ],
)
def test_a_password_is_prepared_as_postgresql_does_it(password, meant):
    assert prepare_password(password) == meant
