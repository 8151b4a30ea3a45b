"""HTTP client that turns every failure into one of the project's errors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from ktrdr.errors import HostUnreachable, KtrdrError
from ktrdr.schemas import API_PREFIX, ProblemDocument
from ktrdr.secret import Secret

CONNECT_TIMEOUT_S: Final = 5.0
TIMEOUT_S: Final = 30.0
USER_AGENT: Final = "ktrdr-cli"
# A backend that is being replaced by a deploy is back within a few seconds.
RECONNECT_TIMEOUT_S: Final = 20.0
_POLL_INTERVAL_S: Final = 0.1
_POLL_TIMEOUT_S: Final = 2.0
# Methods that may be sent twice. A repeated DELETE would not find what the first one removed.
_REPEATABLE_METHODS: Final = frozenset({"GET", "HEAD", "PUT"})

T = TypeVar("T")


class HttpClient:
    """Connection to one backend; use it as a context manager, or close it.

    If the backend is away, a request waits for it and is then sent once more, provided that this
    is safe: the backend refused the connection, or a repetition changes nothing. So a request that
    meets a backend during a deploy takes some seconds longer, and does not fail.
    """

    def __init__(
        self,
        api_url: str,
        token: Secret | None,
        *,
        transport: httpx.BaseTransport | None = None,
        reconnect_timeout_s: float = RECONNECT_TIMEOUT_S,
    ) -> None:
        """Configure the client without opening a connection.

        Args:
            api_url: Address of the backend.
            token: Token to send, or None.
            transport: Implementation of HTTP; by default the network.
            reconnect_timeout_s: Maximum wait for a backend that is away, in seconds. With 0, no
                request is sent twice.
        """
        self._api_url = api_url
        self._reconnect_timeout_s = reconnect_timeout_s
        headers = {"User-Agent": USER_AGENT}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        self.http = httpx.Client(
            base_url=f"{api_url}{API_PREFIX}",
            headers=headers,
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=transport,
            # Loading the certificates of all authorities takes longer than a request. Without TLS
            # none is checked, and no redirect to a TLS address is followed.
            verify=not api_url.startswith("http://"),
            # Proxies are for the internet; the backend is in the homelab's own network.
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.http.close()

    def request(self, method: str, path: str, **options: Any) -> bytes:
        """Send a request and return the body of the response."""
        with self.translate_errors():
            try:
                response = self.http.request(method, path, **options)
            except httpx.TransportError as exc:
                if not (_is_repeatable(exc, method, options) and self._wait_for_backend()):
                    raise
                response = self.http.request(method, path, **options)
            raise_for_problem(response)
            return response.content

    def request_as(self, response_type: type[T], method: str, path: str, **options: Any) -> T:
        """Send a request and return the response as a model, or as a list of models.

        Raises:
            HostUnreachable: The response is not what this release's backend sends.
        """
        content = self.request(method, path, **options)
        try:
            return TypeAdapter(response_type).validate_json(content)
        except ValidationError as exc:
            raise HostUnreachable(
                f"the server at {self._api_url} is not a backend of this release",
                hint="Check KTRDR_API_URL, and deploy the release that this command belongs to.",
            ) from exc

    def _wait_for_backend(self) -> bool:
        """Wait until the backend answers, and return whether it did."""
        deadline = time.monotonic() + self._reconnect_timeout_s
        while time.monotonic() < deadline:
            try:
                self.http.get("/health/live", timeout=_POLL_TIMEOUT_S)
            except httpx.TransportError:
                time.sleep(_POLL_INTERVAL_S)
            else:
                return True
        return False

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise transport errors of the enclosed block as `HostUnreachable`."""
        try:
            yield
        except httpx.ConnectTimeout as exc:
            raise self._unreachable("does not answer") from exc
        except httpx.ConnectError as exc:
            reason = (
                "cannot be reached: its host name is unknown"
                if _is_unknown_name(exc)
                else "refuses connections"
            )
            raise self._unreachable(reason) from exc
        except httpx.TimeoutException as exc:
            raise self._unreachable("did not respond in time") from exc
        except httpx.HTTPError as exc:
            raise self._unreachable("closed the connection") from exc

    def _unreachable(self, reason: str) -> HostUnreachable:
        return HostUnreachable(
            f"the backend at {self._api_url} {reason}",
            hint="Check KTRDR_API_URL and, on the core host, the backend service.",
        )


def raise_for_problem(response: httpx.Response) -> None:
    """Raise the error that an unsuccessful response carries."""
    if response.is_success:
        return
    response.read()
    try:
        problem = ProblemDocument.model_validate_json(response.content)
    except (ValidationError, json.JSONDecodeError):
        raise HostUnreachable(
            f"the backend answered {response.status_code} without an explanation",
            hint="Check that KTRDR_API_URL is the backend, and not a proxy in front of it.",
        ) from None
    error_class = _error_classes().get(problem.type.rpartition(":")[2], KtrdrError)
    raise error_class(problem.detail, hint=problem.hint)


def _error_classes() -> dict[str, type[KtrdrError]]:
    """Return the error classes by the slug that problem documents carry."""
    by_kind: dict[str, type[KtrdrError]] = {}
    queue: list[type[KtrdrError]] = [KtrdrError]
    while queue:
        error_class = queue.pop()
        by_kind.setdefault(error_class.kind, error_class)
        queue += error_class.__subclasses__()
    return by_kind


def _is_repeatable(error: httpx.TransportError, method: str, options: Mapping[str, Any]) -> bool:
    """Return whether the failed request can be sent again without doing anything twice."""
    if isinstance(error, httpx.ConnectError):
        return not _is_unknown_name(error)
    was_cut_off = isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError))
    is_replayable = isinstance(options.get("content", b""), bytes)
    is_idempotent = method in _REPEATABLE_METHODS or "Idempotency-Key" in (
        options.get("headers") or {}
    )
    return was_cut_off and is_replayable and is_idempotent


def _is_unknown_name(error: httpx.ConnectError) -> bool:
    return "name" in str(error).lower() and "known" in str(error).lower()
