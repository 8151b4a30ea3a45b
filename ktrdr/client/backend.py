"""The backend's API as Python calls; every fault comes as one of our errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import httpx
from pydantic import TypeAdapter

from ktrdr.client.http import CONNECT_TIMEOUT_S, TIMEOUT_S, Connection, refuse
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

CHUNK: Final = 256 * 1024

_WORKERS: Final = TypeAdapter(list[Worker])
_DATASETS: Final = TypeAdapter(list[Dataset])
_LEFTOVERS: Final = TypeAdapter(list[OrphanFile])
_DETAILS: Final = TypeAdapter(list[DatasetDetails])
_STRATEGIES: Final = TypeAdapter(list[StrategyInfo])


class Backend(Connection):
    """One backend, and who we are to it; use it as a context manager, or close it."""

    def health(self) -> BackendHealth:
        """What runs there and whether it can work."""
        return self.read(BackendHealth, "GET", "/health")

    def workers(self) -> list[Worker]:
        """The registered workers."""
        return self.validated(_WORKERS, self.request("GET", "/workers"))

    def submit(self, request: OperationRequest, *, idempotency_key: str) -> Operation:
        """Queues an operation; repeating it with the same key changes nothing."""
        return self.read(
            Operation,
            "POST",
            "/operations",
            json=request.model_dump(mode="json"),
            headers={"Idempotency-Key": idempotency_key},
        )

    def submit_all(
        self, requests: Sequence[OperationRequest], *, idempotency_key: str
    ) -> list[Operation]:
        """Queues operations, all or none, a thousand at most; the key covers them together."""
        content = self.request(
            "POST",
            "/operations",
            json=[request.model_dump(mode="json") for request in requests],
            headers={"Idempotency-Key": idempotency_key},
        )
        return self.validated(TypeAdapter(list[Operation]), content)

    def operation(self, operation_id: str) -> Operation:
        """One operation."""
        return self.read(Operation, "GET", f"/operations/{operation_id}")

    def operations(self, **filters: str | int | None) -> OperationPage:
        """A page of operations, newest first; filters as the API names them."""
        given = {name: value for name, value in filters.items() if value is not None}
        return self.read(OperationPage, "GET", "/operations", params=given)

    def cancel(self, operation_id: str) -> Operation:
        """Cancels an operation."""
        return self.read(Operation, "DELETE", f"/operations/{operation_id}")

    def resume(self, operation_id: str) -> Operation:
        """Queues a failed or cancelled operation again."""
        return self.read(Operation, "POST", f"/operations/{operation_id}/resume")

    def results(self, operation_id: str) -> OperationResults:
        """What a completed operation found."""
        return self.read(OperationResults, "GET", f"/operations/{operation_id}/results")

    def save_result(self, operation_id: str, name: str, target: Path) -> None:
        """Writes one of an operation's result files to ``target``."""
        path = f"/operations/{operation_id}/results/files/{name}"
        with self.translated(), self.http.stream("GET", path) as answer:
            refuse(answer)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                for chunk in answer.iter_bytes(CHUNK):
                    file.write(chunk)

    def events(self, operation_id: str, *, after: int = 0) -> Iterator[OperationEvent]:
        """What happens to an operation, as it happens, until it ends or the connection does."""
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        path = f"/operations/{operation_id}/events"
        with self.translated(), self.http.stream("GET", path, headers=headers) as answer:
            refuse(answer)
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield OperationEvent.model_validate_json(line.removeprefix("data: "))

    def log(self, operation_id: str, *, follow: bool = False) -> Iterator[bytes]:
        """The log of an operation, in parts; with ``follow``, as it grows, until the end."""
        path = f"/operations/{operation_id}/logs"
        # Between two lines of a log any time may pass.
        timeout = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S, read=None)
        with (
            self.translated(),
            self.http.stream("GET", path, params={"follow": follow}, timeout=timeout) as answer,
        ):
            refuse(answer)
            yield from answer.iter_bytes()

    def leftovers(self) -> list[OrphanFile]:
        """Files that killed workers have left behind."""
        return self.validated(_LEFTOVERS, self.request("GET", "/leftovers"))

    def remove_leftovers(self) -> list[OrphanFile]:
        """Removes them; gives what there was."""
        return self.validated(_LEFTOVERS, self.request("DELETE", "/leftovers"))

    def drains(self) -> list[Drain]:
        """The workers and nodes that take nothing new."""
        return self.validated(TypeAdapter(list[Drain]), self.request("GET", "/drains"))

    def drain(self, target: str, mode: DrainMode) -> Drain:
        """Lets a worker or node take nothing new."""
        return self.read(Drain, "PUT", f"/drains/{target}", json={"mode": mode.value})

    def undrain(self, target: str) -> None:
        """Lets it take work again."""
        self.request("DELETE", f"/drains/{target}")

    def revoke_token(self, token_id: str, expires_at: datetime) -> None:
        """Has the backend believe a token no more."""
        body = {"token_id": token_id, "expires_at": expires_at.isoformat()}
        self.request("POST", "/tokens/revoked", json=body)

    def revoked_tokens(self) -> list[RevokedToken]:
        """The revoked tokens that have not expired."""
        content = self.request("GET", "/tokens/revoked")
        return self.validated(TypeAdapter(list[RevokedToken]), content)

    def audit(self, **filters: str | int | None) -> list[AuditEntry]:
        """Who changed what, newest first; filters as the API names them."""
        given = {name: value for name, value in filters.items() if value is not None}
        content = self.request("GET", "/audit", params=given)
        return self.validated(TypeAdapter(list[AuditEntry]), content)

    def datasets(self) -> list[Dataset]:
        """The datasets in the shared directory."""
        return self.validated(_DATASETS, self.request("GET", "/data"))

    def datasets_of(self, symbol: str) -> list[DatasetDetails]:
        """All that is known of a symbol's datasets."""
        return self.validated(_DETAILS, self.request("GET", _data_path(symbol)))

    def dataset(self, symbol: str, timeframe: str) -> DatasetDetails:
        """All that is known of a dataset."""
        return self.read(DatasetDetails, "GET", _data_path(symbol, timeframe))

    def import_dataset(
        self, file: BinaryIO, symbol: str, timeframe: str, request: ImportRequest | None = None
    ) -> ImportReport:
        """Uploads a CSV file; it is checked there, row by row."""
        query = (request or ImportRequest()).model_dump(
            mode="json", exclude_defaults=True, exclude_none=True
        )
        return self.read(
            ImportReport,
            "PUT",
            _data_path(symbol, timeframe),
            params=query,
            content=iter(lambda: file.read(CHUNK), b""),
            timeout=httpx.Timeout(600, connect=CONNECT_TIMEOUT_S),
        )

    def remove_dataset(self, symbol: str, timeframe: str) -> None:
        """Removes a dataset."""
        self.request("DELETE", _data_path(symbol, timeframe))

    def strategies(self) -> list[StrategyInfo]:
        """The strategies that come with KTRDR, and those in the shared directory."""
        return self.validated(_STRATEGIES, self.request("GET", "/strategies"))

    def strategy(self, name: str) -> str:
        """A strategy's document, as it was written."""
        content = self.request("GET", f"/strategies/{name}")
        return content.decode("utf-8", errors="replace")

    def put_strategy(self, name: str, text: str) -> StrategyInfo:
        """Puts a document in the shared directory; it is checked there."""
        return self.read(StrategyInfo, "PUT", f"/strategies/{name}", content=text.encode())

    def delete_strategy(self, name: str) -> None:
        """Removes a strategy of one's own."""
        self.request("DELETE", f"/strategies/{name}")


def _data_path(*names: str) -> str:
    """A path below the data; no name leads to another."""
    for name in names:
        if not re.fullmatch(NAME_PATTERN, name):
            raise UsageError(
                f"{name!r} cannot be the name of a symbol or a timeframe",
                hint="Use letters, digits, dot, dash and underscore, 64 at most.",
            )
    return f"/data/{'/'.join(names)}"
