"""Client of the backend's API."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import httpx

from ktrdr.client.configuration import read_api_url, read_token
from ktrdr.client.http import CONNECT_TIMEOUT_S, TIMEOUT_S, HttpClient, raise_for_problem
from ktrdr.errors import UsageError
from ktrdr.schemas import (
    NAME_PATTERN,
    AuditEntry,
    BackendHealth,
    Drain,
    DrainMode,
    Operation,
    OperationEvent,
    OperationPage,
    OperationRequest,
    OperationResults,
    OrphanFile,
    RevokedToken,
    StrategyInfo,
    Worker,
)
from ktrdr.schemas.data import Dataset, DatasetDetails, ImportReport, ImportRequest

CHUNK_BYTES: Final = 256 * 1024


class BackendClient(HttpClient):
    """Client of one backend; use it as a context manager, or close it."""

    def get_health(self) -> BackendHealth:
        """Return the backend's version and health."""
        return self.request_as(BackendHealth, "GET", "/health")

    def list_workers(self) -> list[Worker]:
        """Return the registered workers."""
        return self.request_as(list[Worker], "GET", "/workers")

    def submit(self, request: OperationRequest, *, idempotency_key: str) -> Operation:
        """Queue an operation. Repeating it with the same key changes nothing."""
        return self.request_as(
            Operation,
            "POST",
            "/operations",
            json=request.model_dump(mode="json"),
            headers={"Idempotency-Key": idempotency_key},
        )

    def submit_batch(
        self, requests: Sequence[OperationRequest], *, idempotency_key: str
    ) -> list[Operation]:
        """Queue all of at most 1,000 operations, or none. The key covers the whole batch."""
        return self.request_as(
            list[Operation],
            "POST",
            "/operations",
            json=[request.model_dump(mode="json") for request in requests],
            headers={"Idempotency-Key": idempotency_key},
        )

    def get_operation(self, operation_id: str) -> Operation:
        """Return an operation."""
        return self.request_as(Operation, "GET", f"/operations/{operation_id}")

    def list_operations(self, **filters: str | int | None) -> OperationPage:
        """Return a page of operations, newest first. Filters are the API's."""
        return self.request_as(OperationPage, "GET", "/operations", params=_without_none(filters))

    def cancel(self, operation_id: str) -> Operation:
        """Cancel an operation."""
        return self.request_as(Operation, "DELETE", f"/operations/{operation_id}")

    def resume(self, operation_id: str) -> Operation:
        """Queue a failed or cancelled operation again."""
        return self.request_as(Operation, "POST", f"/operations/{operation_id}/resume")

    def get_results(self, operation_id: str) -> OperationResults:
        """Return the results of a completed operation."""
        return self.request_as(OperationResults, "GET", f"/operations/{operation_id}/results")

    def download_result_file(self, operation_id: str, name: str, target: Path) -> None:
        """Download a result file of an operation to ``target``."""
        path = f"/operations/{operation_id}/results/files/{name}"
        with self.translate_errors(), self.http.stream("GET", path) as response:
            raise_for_problem(response)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    file.write(chunk)

    def stream_events(self, operation_id: str, *, after: int = 0) -> Iterator[OperationEvent]:
        """Yield an operation's events until it ends or the connection is lost."""
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        path = f"/operations/{operation_id}/events"
        with self.translate_errors(), self.http.stream("GET", path, headers=headers) as response:
            raise_for_problem(response)
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield OperationEvent.model_validate_json(line.removeprefix("data: "))

    def stream_log(self, operation_id: str, *, follow: bool = False) -> Iterator[bytes]:
        """Yield an operation's log in chunks; with ``follow``, until the operation ends."""
        path = f"/operations/{operation_id}/logs"
        # A log may pause for any time between two lines.
        timeout = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S, read=None)
        with (
            self.translate_errors(),
            self.http.stream("GET", path, params={"follow": follow}, timeout=timeout) as response,
        ):
            raise_for_problem(response)
            yield from response.iter_bytes()

    def list_orphans(self) -> list[OrphanFile]:
        """Return the files that killed workers left behind."""
        return self.request_as(list[OrphanFile], "GET", "/leftovers")

    def remove_orphans(self) -> list[OrphanFile]:
        """Delete the files that killed workers left behind, and return them."""
        return self.request_as(list[OrphanFile], "DELETE", "/leftovers")

    def list_drains(self) -> list[Drain]:
        """Return the drained workers and nodes."""
        return self.request_as(list[Drain], "GET", "/drains")

    def drain(self, target: str, mode: DrainMode) -> Drain:
        """Stop giving new operations to a worker or node."""
        return self.request_as(Drain, "PUT", f"/drains/{target}", json={"mode": mode.value})

    def undrain(self, target: str) -> None:
        """Give operations to a worker or node again."""
        self.request("DELETE", f"/drains/{target}")

    def revoke_token(self, token_id: str, expires_at: datetime) -> None:
        """Revoke a token until it expires."""
        body = {"token_id": token_id, "expires_at": expires_at.isoformat()}
        self.request("POST", "/tokens/revoked", json=body)

    def list_revoked_tokens(self) -> list[RevokedToken]:
        """Return the revoked tokens that have not expired."""
        return self.request_as(list[RevokedToken], "GET", "/tokens/revoked")

    def list_audit_entries(self, **filters: str | int | None) -> list[AuditEntry]:
        """Return entries of the audit trail, newest first. Filters are the API's."""
        return self.request_as(list[AuditEntry], "GET", "/audit", params=_without_none(filters))

    def list_datasets(self) -> list[Dataset]:
        """Return the datasets in the shared directory."""
        return self.request_as(list[Dataset], "GET", "/data")

    def list_symbol_datasets(self, symbol: str) -> list[DatasetDetails]:
        """Return a symbol's datasets with their provenance."""
        return self.request_as(list[DatasetDetails], "GET", _data_path(symbol))

    def get_dataset(self, symbol: str, timeframe: str) -> DatasetDetails:
        """Return a dataset with its provenance."""
        return self.request_as(DatasetDetails, "GET", _data_path(symbol, timeframe))

    def import_dataset(
        self, file: BinaryIO, symbol: str, timeframe: str, request: ImportRequest | None = None
    ) -> ImportReport:
        """Upload a CSV file. The backend checks every row."""
        query = (request or ImportRequest()).model_dump(
            mode="json", exclude_defaults=True, exclude_none=True
        )
        return self.request_as(
            ImportReport,
            "PUT",
            _data_path(symbol, timeframe),
            params=query,
            content=iter(lambda: file.read(CHUNK_BYTES), b""),
            timeout=httpx.Timeout(600, connect=CONNECT_TIMEOUT_S),
        )

    def remove_dataset(self, symbol: str, timeframe: str) -> None:
        """Delete a dataset."""
        self.request("DELETE", _data_path(symbol, timeframe))

    def list_strategies(self) -> list[StrategyInfo]:
        """Return the built-in strategies and those in the shared directory."""
        return self.request_as(list[StrategyInfo], "GET", "/strategies")

    def get_strategy(self, name: str) -> str:
        """Return the YAML text of a strategy."""
        content = self.request("GET", f"/strategies/{name}")
        return content.decode("utf-8", errors="replace")

    def put_strategy(self, name: str, text: str) -> StrategyInfo:
        """Upload a strategy. The backend checks it."""
        return self.request_as(StrategyInfo, "PUT", f"/strategies/{name}", content=text.encode())

    def delete_strategy(self, name: str) -> None:
        """Delete a strategy from the shared directory."""
        self.request("DELETE", f"/strategies/{name}")


def open_backend(environ: Mapping[str, str] = os.environ) -> BackendClient:
    """Create a client with the configured address and token.

    Raises:
        ConfigurationError: The address or a configuration file cannot be used.
        SecretsError: There is no token.
    """
    return BackendClient(read_api_url(environ), read_token(environ))


def _without_none(filters: Mapping[str, str | int | None]) -> dict[str, str | int]:
    return {name: value for name, value in filters.items() if value is not None}


def _data_path(*names: str) -> str:
    """Return the API path of a symbol's data; refuse names that would lead to another path."""
    for name in names:
        if not re.fullmatch(NAME_PATTERN, name):
            raise UsageError(
                f"{name!r} cannot be the name of a symbol or a timeframe",
                hint="Use at most 64 letters, digits, dots, dashes and underscores.",
            )
    return f"/data/{'/'.join(names)}"
