"""Tokens: their claims, their verification and the rotation of the secret."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.errors import SecretsError
from ktrdr.secret import Secret
from ktrdr.tokens import (
    Identity,
    Keyring,
    Role,
    create_node_token,
    create_token,
    decode_unverified,
    verify_token,
)

SECRET = Secret("s" * 32)
OTHER = Secret("o" * 32)
DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.now(tz=UTC)


def operator(lifetime: timedelta = DAY, at: datetime | None = None) -> str:
    return create_token(
        SECRET, subject="ann", role=Role.OPERATOR, lifetime=lifetime, now=at or now()
    ).reveal()


def signed(claims: dict[str, object], secret: Secret = SECRET, algorithm: str = "HS256") -> str:
    good: dict[str, object] = {
        "iss": "ktrdr", "sub": "ann", "role": "operator", "jti": "1",
        "iat": now(), "exp": now() + DAY,
    }  # fmt: skip
    merged = {name: value for name, value in (good | claims).items() if value is not None}
    return jwt.encode(merged, secret.reveal(), algorithm=algorithm)


def test_a_token_identifies_subject_role_and_expiry() -> None:
    at = now().replace(microsecond=0)
    identity = verify_token(operator(at=at), SECRET)
    assert (identity.subject, identity.role, identity.node) == ("ann", Role.OPERATOR, None)
    assert identity.expires_at == at + DAY


def test_a_workers_token_names_its_node() -> None:
    token = create_token(
        SECRET, subject="b", role=Role.WORKER, lifetime=DAY, now=now(), node="workers-b.example"
    )
    assert verify_token(token.reveal(), SECRET).node == "workers-b.example"


@pytest.mark.parametrize(
    ("role", "node"), [(Role.WORKER, None), (Role.OPERATOR, "n"), (Role.READER, "n")]
)
def test_a_worker_needs_a_node_and_other_roles_have_none(role: Role, node: str | None) -> None:
    with pytest.raises(ValueError, match="needs a node"):
        create_token(SECRET, subject="x", role=role, lifetime=DAY, now=now(), node=node)


@given(
    st.integers(0, 25_000).map(lambda day: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day))
)
def test_a_nodes_token_is_valid_for_most_of_a_year_whenever_it_is_created(at: datetime) -> None:
    identity = decode_unverified(create_node_token(SECRET, "workers-b.example", now=at))
    assert (identity.role, identity.node) == (Role.WORKER, "workers-b.example")
    assert timedelta(days=307) < identity.expires_at - at <= timedelta(days=400)


def test_a_nodes_token_is_the_same_within_a_quarter_and_unique_to_the_node() -> None:
    first = create_node_token(SECRET, "b", now=datetime(2026, 10, 1, tzinfo=UTC))
    last = create_node_token(SECRET, "b", now=datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    following = create_node_token(SECRET, "b", now=datetime(2027, 1, 1, tzinfo=UTC))
    other = create_node_token(SECRET, "c", now=datetime(2026, 10, 1, tzinfo=UTC))
    assert first == last
    assert len({first, following, other}) == 3


def test_no_two_tokens_have_the_same_id() -> None:
    assert verify_token(operator(), SECRET).token_id != verify_token(operator(), SECRET).token_id


def test_a_short_signing_secret_is_rejected() -> None:
    with pytest.raises(SecretsError, match="shorter than 32"):
        create_token(Secret("s" * 31), subject="x", role=Role.READER, lifetime=DAY, now=now())


def test_an_expired_token_is_rejected_with_that_reason() -> None:
    with pytest.raises(SecretsError, match="has expired"):
        verify_token(operator(timedelta(minutes=1), now() - timedelta(hours=1)), SECRET)


def test_a_small_clock_difference_is_tolerated_and_a_large_one_is_reported() -> None:
    verify_token(operator(at=now() + timedelta(seconds=20)), SECRET)
    with pytest.raises(SecretsError, match="in the future"):
        verify_token(operator(at=now() + timedelta(minutes=5)), SECRET)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "another"}, {"iss": None}, {"sub": None}, {"jti": None}, {"exp": None},
        {"iat": None}, {"role": None}, {"role": "root"}, {"role": ["operator"]},
        {"role": "worker"}, {"exp": 10**30}, {"sub": 7},
    ],
)  # fmt: skip
def test_a_missing_or_invalid_claim_is_rejected(changes: dict[str, object]) -> None:
    with pytest.raises(SecretsError):
        verify_token(signed(changes), SECRET)


def test_a_token_with_another_secret_or_algorithm_is_rejected() -> None:
    for token in (signed({}, OTHER), signed({}, Secret("s" * 64), "HS512")):
        with pytest.raises(SecretsError, match="not issued for this backend"):
            verify_token(token, SECRET)


def test_an_unsigned_token_is_rejected() -> None:
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    _, body, _ = operator().split(".")
    with pytest.raises(SecretsError):
        verify_token(f"{head}.{body}.", SECRET)


def test_a_changed_claim_breaks_the_signature() -> None:
    head, body, signature = operator().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["sub"] = "eve"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    with pytest.raises(SecretsError):
        verify_token(f"{head}.{forged}.{signature}", SECRET)


@given(st.text())
def test_any_text_is_rejected_with_the_same_error(text: str) -> None:
    with pytest.raises(SecretsError):
        verify_token(text, SECRET)
    with pytest.raises(SecretsError):
        decode_unverified(Secret(text))


def test_a_token_is_decoded_without_the_secret() -> None:
    identity = decode_unverified(Secret(signed({"sub": "ann"}, OTHER)))
    assert isinstance(identity, Identity)
    assert (identity.subject, identity.role) == ("ann", Role.OPERATOR)


def test_an_expired_token_is_still_decoded() -> None:
    expired = operator(timedelta(minutes=1), now() - timedelta(hours=1))
    assert decode_unverified(Secret(expired)).expires_at < now()


def test_after_a_rotation_tokens_of_the_previous_secret_are_valid_until_its_expiry() -> None:
    old, new = operator(), signed({"sub": "bob"}, OTHER)
    until = now() + timedelta(hours=1)
    keyring = Keyring(OTHER, SECRET, until)
    assert keyring.verify(old, now()).subject == "ann"
    assert keyring.verify(new, now()).subject == "bob"
    with pytest.raises(SecretsError, match="not issued for this backend"):
        keyring.verify(old, until)
    assert keyring.verify(new, until).subject == "bob"
    with pytest.raises(SecretsError):
        Keyring(OTHER).verify(old, now())


def test_after_a_rotation_the_reason_is_the_current_secrets() -> None:
    keyring = Keyring(SECRET, OTHER, now() + DAY)
    with pytest.raises(SecretsError, match="expired"):
        keyring.verify(operator(at=now() - 3 * DAY), now())
