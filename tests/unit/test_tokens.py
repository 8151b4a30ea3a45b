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
from ktrdr.tokens import Identity, Keyring, Role, mint, mint_for_node, read_unverified, verify

SECRET = Secret("s" * 32)
OTHER = Secret("o" * 32)
DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.now(tz=UTC)


def operator(lifetime: timedelta = DAY, at: datetime | None = None) -> str:
    return mint(
        SECRET, subject="ann", role=Role.OPERATOR, lifetime=lifetime, now=at or now()
    ).reveal()


def signed(claims: dict[str, object], secret: Secret = SECRET, algorithm: str = "HS256") -> str:
    good: dict[str, object] = {
        "iss": "ktrdr", "sub": "ann", "role": "operator", "jti": "1",
        "iat": now(), "exp": now() + DAY,
    }  # fmt: skip
    merged = {name: value for name, value in (good | claims).items() if value is not None}
    return jwt.encode(merged, secret.reveal(), algorithm=algorithm)


def test_a_minted_token_says_who_may_do_what_and_until_when() -> None:
    at = now().replace(microsecond=0)
    identity = verify(operator(at=at), SECRET)
    assert (identity.subject, identity.role, identity.node) == ("ann", Role.OPERATOR, None)
    assert identity.expires_at == at + DAY


def test_a_workers_token_names_its_node() -> None:
    token = mint(
        SECRET, subject="b", role=Role.WORKER, lifetime=DAY, now=now(), node="workers-b.example"
    )
    assert verify(token.reveal(), SECRET).node == "workers-b.example"


@pytest.mark.parametrize(
    ("role", "node"), [(Role.WORKER, None), (Role.OPERATOR, "n"), (Role.READER, "n")]
)
def test_a_node_goes_with_workers_and_with_nobody_else(role: Role, node: str | None) -> None:
    with pytest.raises(ValueError, match="names its node"):
        mint(SECRET, subject="x", role=role, lifetime=DAY, now=now(), node=node)


@given(
    st.integers(0, 25_000).map(lambda day: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day))
)
def test_a_nodes_token_is_good_for_most_of_a_year_whenever_it_is_made(at: datetime) -> None:
    identity = read_unverified(mint_for_node(SECRET, "workers-b.example", now=at))
    assert (identity.role, identity.node) == (Role.WORKER, "workers-b.example")
    assert timedelta(days=307) < identity.expires_at - at <= timedelta(days=400)


def test_a_nodes_token_stays_the_same_within_a_quarter_and_is_its_own() -> None:
    first = mint_for_node(SECRET, "b", now=datetime(2026, 10, 1, tzinfo=UTC))
    last = mint_for_node(SECRET, "b", now=datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    following = mint_for_node(SECRET, "b", now=datetime(2027, 1, 1, tzinfo=UTC))
    other = mint_for_node(SECRET, "c", now=datetime(2026, 10, 1, tzinfo=UTC))
    assert first == last
    assert len({first, following, other}) == 3


def test_no_two_tokens_have_the_same_id() -> None:
    assert verify(operator(), SECRET).token_id != verify(operator(), SECRET).token_id


def test_a_signing_secret_that_is_too_short_is_refused() -> None:
    with pytest.raises(SecretsError, match="shorter than 32"):
        mint(Secret("s" * 31), subject="x", role=Role.READER, lifetime=DAY, now=now())


def test_an_expired_token_is_refused_as_such() -> None:
    with pytest.raises(SecretsError, match="has expired"):
        verify(operator(timedelta(minutes=1), now() - timedelta(hours=1)), SECRET)


def test_clocks_that_differ_a_little_do_no_harm_and_much_is_said() -> None:
    verify(operator(at=now() + timedelta(seconds=20)), SECRET)
    with pytest.raises(SecretsError, match="in the future"):
        verify(operator(at=now() + timedelta(minutes=5)), SECRET)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "another"}, {"iss": None}, {"sub": None}, {"jti": None}, {"exp": None},
        {"iat": None}, {"role": None}, {"role": "root"}, {"role": ["operator"]},
        {"role": "worker"}, {"exp": 10**30}, {"sub": 7},
    ],
)  # fmt: skip
def test_a_token_that_lacks_or_bends_a_claim_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SecretsError):
        verify(signed(changes), SECRET)


def test_a_token_of_another_secret_or_algorithm_is_refused() -> None:
    for token in (signed({}, OTHER), signed({}, Secret("s" * 64), "HS512")):
        with pytest.raises(SecretsError, match="not one of this backend's"):
            verify(token, SECRET)


def test_a_token_that_claims_to_need_no_signature_is_refused() -> None:
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    _, body, _ = operator().split(".")
    with pytest.raises(SecretsError):
        verify(f"{head}.{body}.", SECRET)


def test_a_changed_claim_breaks_the_signature() -> None:
    head, body, signature = operator().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["sub"] = "eve"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    with pytest.raises(SecretsError):
        verify(f"{head}.{forged}.{signature}", SECRET)


@given(st.text())
def test_no_text_makes_verifying_fail_in_any_other_way(text: str) -> None:
    with pytest.raises(SecretsError):
        verify(text, SECRET)
    with pytest.raises(SecretsError):
        read_unverified(Secret(text))


def test_a_token_can_be_read_without_the_secret() -> None:
    identity = read_unverified(Secret(signed({"sub": "ann"}, OTHER)))
    assert isinstance(identity, Identity)
    assert (identity.subject, identity.role) == ("ann", Role.OPERATOR)


def test_an_expired_token_can_still_be_read() -> None:
    expired = operator(timedelta(minutes=1), now() - timedelta(hours=1))
    assert read_unverified(Secret(expired)).expires_at < now()


def test_after_a_rotation_the_old_secrets_tokens_are_good_for_the_stated_time_alone() -> None:
    old, new = operator(), signed({"sub": "bob"}, OTHER)
    until = now() + timedelta(hours=1)
    ring = Keyring(OTHER, SECRET, until)
    assert ring.verify(old, now()).subject == "ann"
    assert ring.verify(new, now()).subject == "bob"
    with pytest.raises(SecretsError, match="not one of this backend's"):
        ring.verify(old, until)
    assert ring.verify(new, until).subject == "bob"
    with pytest.raises(SecretsError):
        Keyring(OTHER).verify(old, now())


def test_the_reason_given_after_a_rotation_is_the_present_secrets() -> None:
    ring = Keyring(SECRET, OTHER, now() + DAY)
    with pytest.raises(SecretsError, match="expired"):
        ring.verify(operator(at=now() - 3 * DAY), now())
