"""The backend's API as Python calls; every fault comes as one of our errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from ktrdr import errors
from ktrdr.contracts import (
    API_PREFIX,
    NAME_PATTERN,
    AuditEntry,
    BackendHealth,
    Drain,
    DrainMode,
    LeftoverFile,
    Operation,
    OperationEvent,
    OperationPage,
    OperationRequest,
    OperationResults,
    Problem,
    RevokedToken,
    StrategyInfo,
    Worker,
)
from ktrdr.contracts.data import Dataset, DatasetDetails, ImportReport, ImportRequest
from ktrdr.errors import HostUnreachable, KtrdrError, UsageError
from ktrdr.secret import Secret

CONNECT_TIMEOUT_S: Final = 5.0
TIMEOUT_S: Final = 30.0
CHUNK: Final = 256 * 1024
USER_AGENT: Final = "ktrdr-cli"

Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")
_WORKERS: Final = TypeAdapter(list[Worker])
_DATASETS: Final = TypeAdapter(list[Dataset])
_LEFTOVERS: Final = TypeAdapter(list[LeftoverFile])
_DETAILS: Final = TypeAdapter(list[DatasetDetails])
_STRATEGIES: Final = TypeAdapter(list[StrategyInfo])


def _kinds() -> dict[str, type[KtrdrError]]:
    """The errors by the slug that problem documents carry."""
    found: dict[str, type[KtrdrError]] = {}
    waiting: list[type[KtrdrError]] = [KtrdrError]
    while waiting:
        kind = waiting.pop()
        found.setdefault(kind.kind, kind)
        waiting += kind.__subclasses__()
    return found


class Backend:
    """One backend, and who we are to it; use it as a context manager, or close it."""

    def __init__(
        self,
        api_url: str,
        token: Secret | None,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._api_url = api_url
        headers = {"User-Agent": USER_AGENT}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        self._http = httpx.Client(
            base_url=f"{api_url}{API_PREFIX}",
            headers=headers,
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=transport,
            # What is between us and a host of the homelab is the homelab's own network.
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def health(self) -> BackendHealth:
        """What runs there and whether it can work."""
        return self._read(BackendHealth, "GET", "/health")

    def workers(self) -> list[Worker]:
        """The registered workers."""
        return self._validated(_WORKERS, self._request("GET", "/workers"))

    def submit(self, request: OperationRequest, *, idempotency_key: str) -> Operation:
        """Queues an operation; repeating it with the same key changes nothing."""
        return self._read(
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
        content = self._request(
            "POST",
            "/operations",
            json=[request.model_dump(mode="json") for request in requests],
            headers={"Idempotency-Key": idempotency_key},
        )
        return self._validated(TypeAdapter(list[Operation]), content)

    def operation(self, operation_id: str) -> Operation:
        """One operation."""
        return self._read(Operation, "GET", f"/operations/{operation_id}")

    def operations(self, **filters: str | int | None) -> OperationPage:
        """A page of operations, newest first; filters as the API names them."""
        given = {name: value for name, value in filters.items() if value is not None}
        return self._read(OperationPage, "GET", "/operations", params=given)

    def cancel(self, operation_id: str) -> Operation:
        """Cancels an operation."""
        return self._read(Operation, "DELETE", f"/operations/{operation_id}")

    def resume(self, operation_id: str) -> Operation:
        """Queues a failed or cancelled operation again."""
        return self._read(Operation, "POST", f"/operations/{operation_id}/resume")

    def results(self, operation_id: str) -> OperationResults:
        """What a completed operation found."""
        return self._read(OperationResults, "GET", f"/operations/{operation_id}/results")

    def save_result(self, operation_id: str, name: str, target: Path) -> None:
        """Writes one of an operation's result files to ``target``."""
        path = f"/operations/{operation_id}/results/files/{name}"
        with self._translated(), self._http.stream("GET", path) as answer:
            _refuse(answer)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                for chunk in answer.iter_bytes(CHUNK):
                    file.write(chunk)

    def events(self, operation_id: str, *, after: int = 0) -> Iterator[OperationEvent]:
        """What happens to an operation, as it happens, until it ends or the connection does."""
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        path = f"/operations/{operation_id}/events"
        with self._translated(), self._http.stream("GET", path, headers=headers) as answer:
            _refuse(answer)
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield OperationEvent.model_validate_json(line.removeprefix("data: "))

    def log(self, operation_id: str, *, follow: bool = False) -> Iterator[bytes]:
        """The log of an operation, in parts; with ``follow``, as it grows, until the end."""
        path = f"/operations/{operation_id}/logs"
        # Between two lines of a log any time may pass.
        timeout = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S, read=None)
        with (
            self._translated(),
            self._http.stream("GET", path, params={"follow": follow}, timeout=timeout) as answer,
        ):
            _refuse(answer)
            yield from answer.iter_bytes()

    def leftovers(self) -> list[LeftoverFile]:
        """Files that killed workers have left behind."""
        return self._validated(_LEFTOVERS, self._request("GET", "/leftovers"))

    def remove_leftovers(self) -> list[LeftoverFile]:
        """Removes them; gives what there was."""
        return self._validated(_LEFTOVERS, self._request("DELETE", "/leftovers"))

    def drains(self) -> list[Drain]:
        """The workers and nodes that take nothing new."""
        return self._validated(TypeAdapter(list[Drain]), self._request("GET", "/drains"))

    def drain(self, target: str, mode: DrainMode) -> Drain:
        """Lets a worker or node take nothing new."""
        return self._read(Drain, "PUT", f"/drains/{target}", json={"mode": mode.value})

    def undrain(self, target: str) -> None:
        """Lets it take work again."""
        self._request("DELETE", f"/drains/{target}")

    def revoke_token(self, token_id: str, expires_at: datetime) -> None:
        """Has the backend believe a token no more."""
        body = {"token_id": token_id, "expires_at": expires_at.isoformat()}
        self._request("POST", "/tokens/revoked", json=body)

    def revoked_tokens(self) -> list[RevokedToken]:
        """The revoked tokens that have not expired."""
        content = self._request("GET", "/tokens/revoked")
        return self._validated(TypeAdapter(list[RevokedToken]), content)

    def audit(self, **filters: str | int | None) -> list[AuditEntry]:
        """Who changed what, newest first; filters as the API names them."""
        given = {name: value for name, value in filters.items() if value is not None}
        content = self._request("GET", "/audit", params=given)
        return self._validated(TypeAdapter(list[AuditEntry]), content)

    def datasets(self) -> list[Dataset]:
        """The datasets in the shared directory."""
        return self._validated(_DATASETS, self._request("GET", "/data"))

    def datasets_of(self, symbol: str) -> list[DatasetDetails]:
        """All that is known of a symbol's datasets."""
        return self._validated(_DETAILS, self._request("GET", _data_path(symbol)))

    def dataset(self, symbol: str, timeframe: str) -> DatasetDetails:
        """All that is known of a dataset."""
        return self._read(DatasetDetails, "GET", _data_path(symbol, timeframe))

    def import_dataset(
        self, file: BinaryIO, symbol: str, timeframe: str, request: ImportRequest | None = None
    ) -> ImportReport:
        """Uploads a CSV file; it is checked there, row by row."""
        query = (request or ImportRequest()).model_dump(
            mode="json", exclude_defaults=True, exclude_none=True
        )
        return self._read(
            ImportReport,
            "PUT",
            _data_path(symbol, timeframe),
            params=query,
            content=iter(lambda: file.read(CHUNK), b""),
            timeout=httpx.Timeout(600, connect=CONNECT_TIMEOUT_S),
        )

    def remove_dataset(self, symbol: str, timeframe: str) -> None:
        """Removes a dataset."""
        self._request("DELETE", _data_path(symbol, timeframe))

    def strategies(self) -> list[StrategyInfo]:
        """The strategies that come with KTRDR, and those in the shared directory."""
        return self._validated(_STRATEGIES, self._request("GET", "/strategies"))

    def strategy(self, name: str) -> str:
        """A strategy's document, as it was written."""
        content = self._request("GET", f"/strategies/{name}")
        return content.decode("utf-8", errors="replace")

    def put_strategy(self, name: str, text: str) -> StrategyInfo:
        """Puts a document in the shared directory; it is checked there."""
        return self._read(StrategyInfo, "PUT", f"/strategies/{name}", content=text.encode())

    def delete_strategy(self, name: str) -> None:
        """Removes a strategy of one's own."""
        self._request("DELETE", f"/strategies/{name}")

    def _read(self, model: type[Model], method: str, path: str, **more: Any) -> Model:
        return self._validated(TypeAdapter(model), self._request(method, path, **more))

    def _request(self, method: str, path: str, **more: Any) -> bytes:
        with self._translated():
            answer = self._http.request(method, path, **more)
            _refuse(answer)
            return answer.content

    def _validated(self, adapter: TypeAdapter[T], content: bytes) -> T:
        try:
            return adapter.validate_json(content)
        except ValidationError as exc:
            raise HostUnreachable(
                f"what answers at {self._api_url} is not a backend of this release",
                hint="Check KTRDR_API_URL, and deploy the release that this command is of.",
            ) from exc

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectTimeout as exc:
            raise self._unreachable("does not answer") from exc
        except httpx.ConnectError as exc:
            unknown = "name" in str(exc).lower() and "known" in str(exc).lower()
            reason = "has a name that nobody knows" if unknown else "refuses the connection"
            raise self._unreachable(reason) from exc
        except httpx.TimeoutException as exc:
            raise self._unreachable(f"took longer than {TIMEOUT_S:.0f} s") from exc
        except httpx.HTTPError as exc:
            raise self._unreachable("broke the connection off") from exc

    def _unreachable(self, reason: str) -> HostUnreachable:
        return HostUnreachable(
            f"the backend at {self._api_url} {reason}",
            hint="Check KTRDR_API_URL and, on the core host, the backend service.",
        )


def _data_path(*names: str) -> str:
    """A path below the data; no name leads to another."""
    for name in names:
        if not re.fullmatch(NAME_PATTERN, name):
            raise UsageError(
                f"{name!r} cannot be the name of a symbol or a timeframe",
                hint="Use letters, digits, dot, dash and underscore, 64 at most.",
            )
    return f"/data/{'/'.join(names)}"


def _refuse(answer: httpx.Response) -> None:
    """Raises the error that an answer other than a success carries."""
    if answer.is_success:
        return
    answer.read()
    try:
        problem = Problem.model_validate_json(answer.content)
    except (ValidationError, json.JSONDecodeError):
        raise HostUnreachable(
            f"the backend answered {answer.status_code} without saying why",
            hint="Check that KTRDR_API_URL leads to the backend and not to something before it.",
        ) from None
    kind = _kinds().get(problem.type.rpartition(":")[2], errors.KtrdrError)
    raise kind(problem.detail, hint=problem.hint)
