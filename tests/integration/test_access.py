"""Who may do what over HTTP: revoked and rotated tokens, limits, the trail of changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ktrdr.client.backend import BackendClient
from ktrdr.errors import SecretsError
from ktrdr.schemas import DrainMode, OperationRequest, OperationType
from ktrdr.secret import Secret
from ktrdr.tokens import Role, read_unverified
from tests.integration.processes import JWT_SECRET, Process, Site, ktrdr, token

OLD = Secret("the secret before the rotation, long enough")
TRAINING = OperationRequest(operation_type=OperationType.TRAINING, parameters={"symbol": "X"})


def get(
    backend: Process, credential: Secret, path: str = "/workers", **more: Any
) -> httpx.Response:
    return httpx.get(
        f"{backend.url}/api/v1{path}",
        headers={"Authorization": f"Bearer {credential.reveal()}"},
        timeout=10,
        trust_env=False,
        **more,
    )


def test_a_revoked_token_is_refused_at_once_and_after_a_restart(place: Site) -> None:
    backend = place.backend()
    stolen, mine = token(Role.OPERATOR), place.client(backend)
    assert get(backend, stolen).is_success
    identity = read_unverified(stolen)
    mine.revoke_token(identity.token_id, identity.expires_at)
    mine.revoke_token(identity.token_id, identity.expires_at)
    answer = get(backend, stolen)
    assert (answer.status_code, answer.json()["detail"]) == (401, "the token was revoked")
    assert [each.token_id for each in mine.list_revoked_tokens()] == [identity.token_id]
    backend.stop()
    again = place.backend()
    assert get(again, stolen).status_code == 401
    assert get(again, token(Role.READER)).is_success


def test_a_token_of_the_secret_before_a_rotation_is_good_until_the_overlap_ends(
    place: Site,
) -> None:
    def backend(until: datetime) -> Process:
        return place.backend(
            JWT_SECRET_PREVIOUS=OLD.reveal(), JWT_SECRET_PREVIOUS_UNTIL=until.isoformat()
        )

    old = token(Role.READER, secret=OLD)
    during = backend(datetime.now(UTC) + timedelta(hours=1))
    assert get(during, old).is_success
    assert get(during, token(Role.READER)).is_success
    after = backend(datetime.now(UTC) - timedelta(seconds=1))
    assert get(after, old).status_code == 401
    assert get(after, token(Role.READER)).is_success


def test_half_a_rotation_is_refused_at_the_start(place: Site) -> None:
    process = place.start(
        "ktrdr.api.main:app",
        1,
        JWT_SECRET=JWT_SECRET.reveal(),
        JWT_SECRET_PREVIOUS=OLD.reveal(),
    )
    assert process.popen.wait(20) == 3
    assert "JWT_SECRET_PREVIOUS_UNTIL" in process.output
    assert OLD.reveal() not in process.output


def test_whoever_tries_tokens_is_told_to_wait_and_the_good_one_is_not_looked_at(
    place: Site,
) -> None:
    backend = place.backend(BAD_TOKENS_A_MINUTE="5")
    bad, good = Secret("not.a.token"), token(Role.OPERATOR)
    assert {get(backend, bad).status_code for _ in range(5)} == {401}
    for credential in (bad, good):
        answer = get(backend, credential)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert answer.json()["type"] == "urn:ktrdr:problem:too-many-attempts"
    assert httpx.get(f"{backend.url}/api/v1/health", trust_env=False).is_success
    with (
        BackendClient(backend.url, good) as client,
        pytest.raises(SecretsError, match="bad tokens"),
    ):
        client.list_workers()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_whatever_its_headers_say(
    backend: Process, *, chunked: bool
) -> None:
    body = b'{"operation_type": "' + b"x" * (3 * 1024 * 1024) + b'"}'
    answer = httpx.post(
        f"{backend.url}/api/v1/operations",
        headers={
            "Authorization": f"Bearer {token(Role.OPERATOR).reveal()}",
            "Content-Type": "application/json",
        },
        content=iter([body]) if chunked else body,
        timeout=10,
        trust_env=False,
    )
    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:ktrdr:problem:too-large"
    assert "larger than 2 MiB" in answer.json()["detail"]


def test_pages_of_other_origins_may_call_nothing_unless_they_are_named(place: Site) -> None:
    def allowed(backend: Process) -> str | None:
        headers = {"Origin": "https://notebook.example", "Access-Control-Request-Method": "GET"}
        answer = httpx.options(f"{backend.url}/api/v1/workers", headers=headers, trust_env=False)
        value: str | None = answer.headers.get("access-control-allow-origin")
        return value

    assert allowed(place.backend()) is None
    named = place.backend(CORS_ORIGINS="https://other.example, https://notebook.example")
    assert allowed(named) == "https://notebook.example"


def test_every_change_leaves_a_row_of_who_and_when_and_what(place: Site, backend: Process) -> None:
    client = place.client(backend)
    one = client.submit(TRAINING, idempotency_key="k").operation_id
    client.submit(TRAINING, idempotency_key="k")
    client.cancel(one)
    client.resume(one)
    many = client.submit_batch([TRAINING] * 3, idempotency_key="many")
    client.drain("workers-b", DrainMode.HAND_OVER)
    client.undrain("workers-b")
    client.remove_orphans()
    client.revoke_token("some-token", datetime.now(UTC) + timedelta(days=1))
    found = client.list_audit_entries()
    assert [(each.action, each.subject) for each in reversed(found)] == [
        ("operation.submit", one),
        ("operation.cancel", one),
        ("operation.resume", one),
        ("operation.submit", many[0].operation_id),
        ("drain", "workers-b"),
        ("undrain", "workers-b"),
        ("leftovers.remove", "0 files"),
        ("token.revoke", "some-token"),
    ]
    assert {each.actor for each in found} == {"test operator"}
    assert all(each.token_id and each.at for each in found)
    assert found[4].detail == {"and_more": 2}
    assert client.list_audit_entries(subject=one)[0].action == "operation.resume"
    assert client.list_audit_entries(actor="somebody else") == []


def test_the_operator_sees_the_trail_and_revokes_by_command(place: Site, backend: Process) -> None:
    victim = read_unverified(token(Role.READER))

    def run(*words: str) -> str:
        return ktrdr(backend, *words)

    run("token", "revoke", victim.token_id)
    assert victim.token_id in run("token", "revoked")
    assert "token.revoke" in run("audit")
    assert '"action": "token.revoke"' in run("audit", "--json")
