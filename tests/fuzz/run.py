"""One run: requests for every documented route, by every kind of caller, and the account of it."""

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
from tests.fuzz.stage import CSV, WORKER_ID, Stage
from tests.integration.processes import NODE, token

Route = APIOperation[Any, Any, Any, Any]
Request = schemathesis.Case[Any]

# What an answer must be: no fault of the backend's, and just what the documentation says.
CONFORMANCE: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# And a body that does not fit the documentation is refused; one that was mended may fit, and so may
# a query: parameters that nobody knows are left alone.
REJECTION: Final = "negative_data_rejection"
TIMEOUT_S: Final = 20
NOBODY, FORGER = "nobody", "forger"
# Those who get further than the door come more often.
CALLERS: Final = (
    *[Role.OPERATOR.value] * 4,
    *[Role.WORKER.value] * 2,
    Role.READER.value,
    NOBODY,
    FORGER,
)
# These end when their operation does.
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
class Account:
    """What was asked and answered.

    Attributes:
        answers: How often each route gave each status.
        problems: What was not as documented: a description by what it is about, each once.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """How many there were."""
        return self.answers.total()

    @property
    def server_errors(self) -> int:
        """How many answers were faults of the backend's."""
        return sum(n for (_, status), n in self.answers.items() if status >= 500)

    def table(self) -> list[tuple[str, int, str]]:
        """Route, requests, and the statuses it answered with."""
        routes = sorted({route for route, _ in self.answers})
        return [
            (
                route,
                sum(n for (name, _), n in self.answers.items() if name == route),
                ", ".join(
                    f"{s} x {n}" for (name, s), n in sorted(self.answers.items()) if name == route
                ),
            )
            for route in routes
        ]


def run(stage: Stage, wanted: int, seed: int) -> Account:
    """Asks so many times, and a few more, spread evenly over routes, callers and kinds of request.

    Args:
        stage: Where to, and what there is.
        wanted: The least number of requests.
        seed: Decides all of them.
    """
    began, account = time.monotonic(), Account()
    schema = schemathesis.openapi.from_url(f"{stage.backend.url}/api/v1/openapi.json")
    operations = [read(found) for found in schema.get_all_operations()]
    load_all_checks()
    asker = Asker(stage, account)
    share = max(wanted // (2 * len(operations)), 5)
    while account.requests < wanted:
        for operation in operations:
            for mode in GenerationMode:
                asker.ask_often(operation, mode, share, seed)
        seed += 1
    account.seconds = time.monotonic() - began
    return account


def read(found: Result[Route, InvalidSchema]) -> Route:
    """A route as the tool reads it; a schema that it cannot read is a fault of ours."""
    if isinstance(found, Err):
        raise found.err()
    return found.ok()


class Asker:
    """Makes requests and holds the answers against the documentation."""

    def __init__(self, stage: Stage, account: Account) -> None:
        self._stage = stage
        self._conformance = CHECKS.get_by_names(list(CONFORMANCE))
        self._checks = CHECKS.get_by_names([*CONFORMANCE, REJECTION])
        self._account = account
        self._session = requests.Session()
        self._session.trust_env = False
        self._callers: dict[str, Secret | None] = {
            **{role.value: token(role, lifetime=36_000) for role in Role},
            NOBODY: None,
            FORGER: token(Role.OPERATOR, secret=FORGED),
        }

    def ask_often(self, operation: Route, mode: GenerationMode, times: int, seed: int) -> None:
        """So many requests for one route, well-formed or not; fewer where there are not so many."""

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=times,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(operation.as_strategy(mode), st.sampled_from(CALLERS), st.data())
        def ask(case: Request, caller: str, data: st.DataObject) -> None:
            aimed = data.draw(st.booleans())
            if aimed:
                self._aim(case, data)
            strict = not aimed and (case.method, case.operation.path) in JSON_BODIES
            self._ask(case, self._callers[caller], self._checks if strict else self._conformance)

        with warnings.catch_warnings():
            # Of the tools among themselves; nothing of the backend's.
            warnings.simplefilter("ignore")
            try:
                ask()
            except Unsatisfiable:
                return  # a route that takes nothing cannot be asked wrongly

    def _aim(self, case: Request, data: st.DataObject) -> None:
        """Lets a request name what there is, so that it gets beyond "there is no such thing"."""
        stage, path = self._stage, case.operation.path
        if "operation_id" in case.path_parameters:
            names = stage.ended_ids if path in STREAMS else stage.ended_ids + stage.open_ids
            case.path_parameters["operation_id"] = data.draw(st.sampled_from(names))
        if "name" in case.path_parameters:
            case.path_parameters["name"] = "report.html"
        if "worker_id" in case.path_parameters:
            case.path_parameters["worker_id"] = WORKER_ID
        if "symbol" in case.path_parameters:
            case.path_parameters.update(symbol="X", timeframe="1d")
            case.media_type = "text/csv"
        if case.method != "GET" and path in (SUBMIT, REGISTER, IMPORT):
            case.body = data.draw(BODIES[path])

    def _ask(self, case: Request, credential: Secret | None, checks: list[Any]) -> None:
        headers = {"Authorization": f"Bearer {credential.reveal()}"} if credential else {}
        case.headers.pop("Authorization", None)
        route = f"{case.method} {case.operation.path}"
        response = case.call(
            base_url=self._stage.backend.url,
            session=self._session,
            headers=headers,
            timeout=TIMEOUT_S,
        )
        self._account.answers[(route, response.status_code)] += 1
        try:
            case.validate_response(response, checks=checks)
        except FailureGroup as group:
            for failure in group.exceptions:
                self._note(route, failure)

    def _note(self, route: str, failure: BaseException) -> None:
        title = failure.title if isinstance(failure, Failure) else type(failure).__name__
        self._account.problems.setdefault(f"{route}: {title}", str(failure))


def _submission(
    kind: OperationType, parameters: st.SearchStrategy[OperationParameters]
) -> st.SearchStrategy[dict[str, Any]]:
    return parameters.map(
        lambda found: {"operation_type": kind.value, "parameters": found.model_dump(mode="json")}
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
