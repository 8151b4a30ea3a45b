"""HTTP as the client speaks it: every fault comes as one of our errors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from ktrdr import errors
from ktrdr.errors import HostUnreachable, KtrdrError
from ktrdr.schemas import API_PREFIX, ProblemDocument
from ktrdr.secret import Secret

CONNECT_TIMEOUT_S: Final = 5.0
TIMEOUT_S: Final = 30.0
USER_AGENT: Final = "ktrdr-cli"
# A backend that is being replaced by a deploy is back within a few seconds.
PATIENCE_S: Final = 20.0
_LOOK_EVERY_S: Final = 0.1
_LOOK_TIMEOUT_S: Final = 2.0
# What may be sent twice without harm; DELETE would find gone what its first half removed.
_REPEATABLE: Final = frozenset({"GET", "HEAD", "PUT"})

Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


def _kinds() -> dict[str, type[KtrdrError]]:
    """The errors by the slug that problem documents carry."""
    found: dict[str, type[KtrdrError]] = {}
    waiting: list[type[KtrdrError]] = [KtrdrError]
    while waiting:
        kind = waiting.pop()
        found.setdefault(kind.kind, kind)
        waiting += kind.__subclasses__()
    return found


class Connection:
    """A connection to one backend; use it as a context manager, or close it.

    A request that finds the backend away is sent once more when it is back, as far as that is safe:
    it was refused before it arrived, or repeating it does no harm. So a backend that a deploy
    replaces costs a request some seconds, and no failure.
    """

    def __init__(
        self,
        api_url: str,
        token: Secret | None,
        *,
        transport: httpx.BaseTransport | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Opens nothing yet.

        Args:
            api_url: Where the backend is.
            token: Who we are to it, or None.
            transport: What speaks HTTP; by default the network.
            patience_s: Seconds a backend that is away may take to come back; with 0, no request is
                sent twice.
        """
        self._api_url = api_url
        self._patience_s = patience_s
        headers = {"User-Agent": USER_AGENT}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        self.http = httpx.Client(
            base_url=f"{api_url}{API_PREFIX}",
            headers=headers,
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=transport,
            # To load the certificates of all authorities takes longer than to ask. Where no TLS is
            # spoken none is checked; and no redirect is followed to where it is.
            verify=not api_url.startswith("http://"),
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
        self.http.close()

    def read(self, model: type[Model], method: str, path: str, **more: Any) -> Model:
        """Asks, and reads the answer as what it should be."""
        return self.validated(TypeAdapter(model), self.request(method, path, **more))

    def request(self, method: str, path: str, **more: Any) -> bytes:
        """Asks; gives the body of a good answer."""
        with self.translated():
            try:
                answer = self.http.request(method, path, **more)
            except httpx.TransportError as exc:
                if not (_may_be_repeated(exc, method, more) and self._comes_back()):
                    raise
                answer = self.http.request(method, path, **more)
            refuse(answer)
            return answer.content

    def validated(self, adapter: TypeAdapter[T], content: bytes) -> T:
        """The body of an answer as what it should be."""
        try:
            return adapter.validate_json(content)
        except ValidationError as exc:
            raise HostUnreachable(
                f"what answers at {self._api_url} is not a backend of this release",
                hint="Check KTRDR_API_URL, and deploy the release that this command is of.",
            ) from exc

    def _comes_back(self) -> bool:
        """Waits until the backend answers anything at all."""
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline:
            try:
                self.http.get("/health/live", timeout=_LOOK_TIMEOUT_S)
            except httpx.TransportError:
                time.sleep(_LOOK_EVERY_S)
            else:
                return True
        return False

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turns what goes wrong on the way into one of our errors."""
        try:
            yield
        except httpx.ConnectTimeout as exc:
            raise self._unreachable("does not answer") from exc
        except httpx.ConnectError as exc:
            reason = (
                "has a name that nobody knows" if _is_unknown(exc) else "refuses the connection"
            )
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


def _may_be_repeated(error: httpx.TransportError, method: str, more: Mapping[str, Any]) -> bool:
    """Whether a request that ended so can be sent again without doing anything twice."""
    if isinstance(error, httpx.ConnectError):
        return not _is_unknown(error)
    broken_off = isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError))
    replayable = isinstance(more.get("content", b""), bytes)
    harmless = method in _REPEATABLE or "Idempotency-Key" in (more.get("headers") or {})
    return broken_off and replayable and harmless


def _is_unknown(error: httpx.ConnectError) -> bool:
    return "name" in str(error).lower() and "known" in str(error).lower()


def refuse(answer: httpx.Response) -> None:
    """Raises the error that an answer other than a success carries."""
    if answer.is_success:
        return
    answer.read()
    try:
        problem = ProblemDocument.model_validate_json(answer.content)
    except (ValidationError, json.JSONDecodeError):
        raise HostUnreachable(
            f"the backend answered {answer.status_code} without saying why",
            hint="Check that KTRDR_API_URL leads to the backend and not to something before it.",
        ) from None
    kind = _kinds().get(problem.kind, errors.KtrdrError)
    raise kind(problem.detail, hint=problem.hint)
