"""Fuzz run: requests for every documented route, by every kind of caller."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.errors import InvalidSchema
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Err, Result

from ktrdr.schemas import BacktestParameters, OperationParameters, OperationType, TrainingParameters
from ktrdr.secret import Secret
from ktrdr.tokens import Role
from tests.fuzz.target import CSV, WORKER_ID, FuzzTarget
from tests.integration.processes import NODE, token

Route = APIOperation[Any, Any, Any, Any]
Request = schemathesis.Case[Any]

# A response must not be a server error, and must match the documentation.
CONFORMANCE: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# An invalid body must be rejected. This does not apply to a body that was replaced by a valid one,
# nor to a query, because unknown parameters are ignored.
REJECTION: Final = "negative_data_rejection"
TIMEOUT_S: Final = 20
ANONYMOUS, FORGER = "anonymous", "forger"
# Callers with a valid token are chosen more often.
CALLERS: Final = (
    *[Role.OPERATOR.value] * 4,
    *[Role.WORKER.value] * 2,
    Role.READER.value,
    ANONYMOUS,
    FORGER,
)
# Streams end when their operation ends.
STREAMS: Final = (
    "/api/v1/operations/{operation_id}/events",
    "/api/v1/operations/{operation_id}/logs",
)
SUBMIT: Final = "/api/v1/operations"
REGISTER: Final = "/api/v1/workers/register"
IMPORT: Final = "/api/v1/data/{symbol}/{timeframe}"
JSON_BODIES: Final = (("POST", SUBMIT), ("POST", REGISTER))
FORGED: Final = Secret("a secret that is not the backend's, but long enough")


@dataclass
class FuzzTally:
    """Counts of requests and responses.

    Attributes:
        responses: Number of responses by route and status.
        problems: Undocumented responses: a description by route and kind, each once.
    """

    responses: Counter[tuple[str, int]] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """Number of requests."""
        return self.responses.total()

    @property
    def server_errors(self) -> int:
        """Number of server errors."""
        return sum(n for (_, status), n in self.responses.items() if status >= 500)

    def table(self) -> list[tuple[str, int, str]]:
        """Return route, number of requests, and statuses of every route."""
        routes = sorted({route for route, _ in self.responses})
        return [
            (
                route,
                sum(n for (name, _), n in self.responses.items() if name == route),
                ", ".join(
                    f"{s} x {n}" for (name, s), n in sorted(self.responses.items()) if name == route
                ),
            )
            for route in routes
        ]


def run(target: FuzzTarget, minimum: int, seed: int) -> FuzzTally:
    """Send requests, spread evenly over routes, callers and kinds of request.

    Args:
        target: Backend with its operations.
        minimum: Minimum number of requests.
        seed: Seed of all requests.
    """
    start, tally = time.monotonic(), FuzzTally()
    schema = schemathesis.openapi.from_url(f"{target.backend.url}/api/v1/openapi.json")
    routes = [read_route(result) for result in schema.get_all_operations()]
    load_all_checks()
    requester = Requester(target, tally)
    share = max(minimum // (2 * len(routes)), 5)
    while tally.requests < minimum:
        for route in routes:
            for mode in GenerationMode:
                requester.send_many(route, mode, share, seed)
        seed += 1
    tally.seconds = time.monotonic() - start
    return tally


def read_route(result: Result[Route, InvalidSchema]) -> Route:
    """Return a route, or raise the error of an unreadable schema."""
    if isinstance(result, Err):
        raise result.err()
    return result.ok()


class Requester:
    """Client that sends generated requests and checks the responses."""

    def __init__(self, target: FuzzTarget, tally: FuzzTally) -> None:
        self._target = target
        self._conformance = CHECKS.get_by_names(list(CONFORMANCE))
        self._checks = CHECKS.get_by_names([*CONFORMANCE, REJECTION])
        self._account = tally
        self._session = requests.Session()
        self._session.trust_env = False
        self._callers: dict[str, Secret | None] = {
            **{role.value: token(role, lifetime=36_000) for role in Role},
            ANONYMOUS: None,
            FORGER: token(Role.OPERATOR, secret=FORGED),
        }

    def send_many(self, route: Route, mode: GenerationMode, times: int, seed: int) -> None:
        """Send up to ``times`` valid or invalid requests to one route."""

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=times,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(route.as_strategy(mode), st.sampled_from(CALLERS), st.data())
        def send(case: Request, caller: str, data: st.DataObject) -> None:
            has_existing_ids = data.draw(st.booleans())
            if has_existing_ids:
                self._insert_existing_ids(case, data)
            is_strict = not has_existing_ids and (case.method, case.operation.path) in JSON_BODIES
            checks = self._checks if is_strict else self._conformance
            self._send(case, self._callers[caller], checks)

        with warnings.catch_warnings():
            # Warnings of the tools about each other, not about the backend.
            warnings.simplefilter("ignore")
            try:
                send()
            except Unsatisfiable:
                return  # a route without parameters has no invalid request

    def _insert_existing_ids(self, case: Request, data: st.DataObject) -> None:
        """Let a request name existing things, so that it gets beyond a 404."""
        target, path = self._target, case.operation.path
        if "operation_id" in case.path_parameters:
            ids = target.ended_ids if path in STREAMS else target.ended_ids + target.open_ids
            case.path_parameters["operation_id"] = data.draw(st.sampled_from(ids))
        if "name" in case.path_parameters:
            case.path_parameters["name"] = "report.html"
        if "worker_id" in case.path_parameters:
            case.path_parameters["worker_id"] = WORKER_ID
        if "symbol" in case.path_parameters:
            case.path_parameters.update(symbol="X", timeframe="1d")
            case.media_type = "text/csv"
        if case.method != "GET" and path in (SUBMIT, REGISTER, IMPORT):
            case.body = data.draw(BODIES[path])

    def _send(self, case: Request, credential: Secret | None, checks: list[Any]) -> None:
        headers = {"Authorization": f"Bearer {credential.reveal()}"} if credential else {}
        case.headers.pop("Authorization", None)
        route = f"{case.method} {case.operation.path}"
        response = case.call(
            base_url=self._target.backend.url,
            session=self._session,
            headers=headers,
            timeout=TIMEOUT_S,
        )
        self._account.responses[(route, response.status_code)] += 1
        try:
            case.validate_response(response, checks=checks)
        except FailureGroup as group:
            for failure in group.exceptions:
                self._record(route, failure)

    def _record(self, route: str, failure: BaseException) -> None:
        title = failure.title if isinstance(failure, Failure) else type(failure).__name__
        self._account.problems.setdefault(f"{route}: {title}", str(failure))


def _submission(
    kind: OperationType, parameters: st.SearchStrategy[OperationParameters]
) -> st.SearchStrategy[dict[str, Any]]:
    return parameters.map(
        lambda model: {"operation_type": kind.value, "parameters": model.model_dump(mode="json")}
    )


BODIES: Final[dict[str, st.SearchStrategy[Any]]] = {
    SUBMIT: _submission(
        OperationType.BACKTEST,
        st.builds(BacktestParameters, symbol=st.just("X"), folds=st.integers(1, 100)),
    )
    | _submission(
        OperationType.TRAINING,
        st.builds(TrainingParameters, symbol=st.just("X"), seed=st.integers(0, 2**32 - 1)),
    ),
    REGISTER: st.fixed_dictionaries(
        {
            "worker_id": st.just(WORKER_ID),
            "worker_type": st.sampled_from(["backtesting", "training"]),
            "endpoint_url": st.integers(1, 65535).map(lambda port: f"http://{NODE}:{port}"),
            "version": st.text(),
        }
    ),
    IMPORT: st.just(CSV) | st.binary(max_size=2000),
}
