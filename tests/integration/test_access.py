"""Access control over HTTP: revoked and rotated tokens, limits, the audit trail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ktrdr.client.backend import Backend
from ktrdr.errors import SecretsError
from ktrdr.schemas import DrainMode, OperationRequest, OperationType
from ktrdr.secret import Secret
from ktrdr.tokens import Role, decode_unverified
from tests.integration.processes import JWT_SECRET, Runtime, ServerProcess, run_ktrdr, token

OLD = Secret("the secret before the rotation, long enough")
TRAINING = OperationRequest(operation_type=OperationType.TRAINING, parameters={"symbol": "X"})


def get(
    backend: ServerProcess, credential: Secret, path: str = "/workers", **more: Any
) -> httpx.Response:
    return httpx.get(
        f"{backend.url}/api/v1{path}",
        headers={"Authorization": f"Bearer {credential.reveal()}"},
        timeout=10,
        trust_env=False,
        **more,
    )


def test_a_revoked_token_is_rejected_immediately_and_after_a_restart(runtime: Runtime) -> None:
    backend = runtime.backend()
    stolen, mine = token(Role.OPERATOR), runtime.client(backend)
    assert get(backend, stolen).is_success
    identity = decode_unverified(stolen)
    mine.revoke_token(identity.token_id, identity.expires_at)
    mine.revoke_token(identity.token_id, identity.expires_at)
    answer = get(backend, stolen)
    assert (answer.status_code, answer.json()["detail"]) == (401, "the token was revoked")
    assert [each.token_id for each in mine.revoked_tokens()] == [identity.token_id]
    backend.stop()
    again = runtime.backend()
    assert get(again, stolen).status_code == 401
    assert get(again, token(Role.READER)).is_success


def test_a_token_of_the_previous_secret_is_valid_until_the_overlap_ends(
    runtime: Runtime,
) -> None:
    def backend(until: datetime) -> ServerProcess:
        return runtime.backend(
            JWT_SECRET_PREVIOUS=OLD.reveal(), JWT_SECRET_PREVIOUS_UNTIL=until.isoformat()
        )

    old = token(Role.READER, secret=OLD)
    during = backend(datetime.now(UTC) + timedelta(hours=1))
    assert get(during, old).is_success
    assert get(during, token(Role.READER)).is_success
    after = backend(datetime.now(UTC) - timedelta(seconds=1))
    assert get(after, old).status_code == 401
    assert get(after, token(Role.READER)).is_success


def test_an_incomplete_rotation_is_rejected_at_the_start(runtime: Runtime) -> None:
    process = runtime.start(
        "ktrdr.api.main:app",
        1,
        JWT_SECRET=JWT_SECRET.reveal(),
        JWT_SECRET_PREVIOUS=OLD.reveal(),
    )
    assert process.popen.wait(20) == 3
    assert "JWT_SECRET_PREVIOUS_UNTIL" in process.output
    assert OLD.reveal() not in process.output


def test_an_address_with_too_many_bad_tokens_must_wait_even_with_a_valid_one(
    runtime: Runtime,
) -> None:
    backend = runtime.backend(BAD_TOKENS_A_MINUTE="5")
    bad, good = Secret("not.a.token"), token(Role.OPERATOR)
    assert {get(backend, bad).status_code for _ in range(5)} == {401}
    for credential in (bad, good):
        answer = get(backend, credential)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert answer.json()["type"] == "urn:ktrdr:problem:too-many-attempts"
    assert httpx.get(f"{backend.url}/api/v1/health", trust_env=False).is_success
    with Backend(backend.url, good) as client, pytest.raises(SecretsError, match="bad tokens"):
        client.workers()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_rejected_whatever_its_headers_declare(
    backend: ServerProcess, *, chunked: bool
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


def test_only_pages_of_configured_origins_may_call_the_api(runtime: Runtime) -> None:
    def allowed(backend: ServerProcess) -> str | None:
        headers = {"Origin": "https://notebook.example", "Access-Control-Request-Method": "GET"}
        answer = httpx.options(f"{backend.url}/api/v1/workers", headers=headers, trust_env=False)
        value: str | None = answer.headers.get("access-control-allow-origin")
        return value

    assert allowed(runtime.backend()) is None
    named = runtime.backend(CORS_ORIGINS="https://other.example, https://notebook.example")
    assert allowed(named) == "https://notebook.example"


def test_every_change_is_recorded_in_the_audit_trail(
    runtime: Runtime, backend: ServerProcess
) -> None:
    client = runtime.client(backend)
    one = client.submit(TRAINING, idempotency_key="k").operation_id
    client.submit(TRAINING, idempotency_key="k")
    client.cancel(one)
    client.resume(one)
    many = client.submit_all([TRAINING] * 3, idempotency_key="many")
    client.drain("workers-b", DrainMode.HAND_OVER)
    client.undrain("workers-b")
    client.remove_leftovers()
    client.revoke_token("some-token", datetime.now(UTC) + timedelta(days=1))
    entries = client.audit()
    assert [(each.action, each.subject) for each in reversed(entries)] == [
        ("operation.submit", one),
        ("operation.cancel", one),
        ("operation.resume", one),
        ("operation.submit", many[0].operation_id),
        ("drain", "workers-b"),
        ("undrain", "workers-b"),
        ("leftovers.remove", "0 files"),
        ("token.revoke", "some-token"),
    ]
    assert {each.actor for each in entries} == {"test operator"}
    assert all(each.token_id and each.at for each in entries)
    assert entries[4].detail == {"and_more": 2}
    assert client.audit(subject=one)[0].action == "operation.resume"
    assert client.audit(actor="another operator") == []


def test_commands_show_the_audit_trail_and_revoke_a_token(
    runtime: Runtime, backend: ServerProcess
) -> None:
    victim = decode_unverified(token(Role.READER))

    def run(*words: str) -> str:
        return run_ktrdr(backend, *words)

    run("token", "revoke", victim.token_id)
    assert victim.token_id in run("token", "revoked")
    assert "token.revoke" in run("audit")
    assert '"action": "token.revoke"' in run("audit", "--json")
