"""Messages between backend, workers and clients, as pydantic models.

Importable without FastAPI, database or domain code. Times are aware and in UTC. Fractions run from
0 to 1. The schemas of market data are in `ktrdr.schemas.data` and imported from there.
"""

from __future__ import annotations

from ktrdr.schemas.access import AuditEntry, RevokedToken, TokenRevocation
from ktrdr.schemas.base import (
    API_PREFIX,
    MAX_BATCH,
    NAME_PATTERN,
    OPERATION_ID_PATTERN,
    PLAIN_TEXT_PATTERN,
    RequestModel,
    ResponseModel,
)
from ktrdr.schemas.errors import ErrorDetail, ProblemDocument
from ktrdr.schemas.health import BackendHealth, BuildVersion, Condition, WorkerHealth
from ktrdr.schemas.operations import (
    BacktestParameters,
    Operation,
    OperationEvent,
    OperationPage,
    OperationParameters,
    OperationRequest,
    OperationResults,
    OperationStatus,
    OperationType,
    OrphanFile,
    SweepParameters,
    TrainingParameters,
)
from ktrdr.schemas.strategies import StrategyInfo, StrategyParameter
from ktrdr.schemas.workers import (
    Drain,
    DrainMode,
    DrainRequest,
    Worker,
    WorkerRegistration,
    WorkerStatus,
    WorkerType,
)

__all__ = [
    "API_PREFIX",
    "MAX_BATCH",
    "NAME_PATTERN",
    "OPERATION_ID_PATTERN",
    "PLAIN_TEXT_PATTERN",
    "AuditEntry",
    "BackendHealth",
    "BacktestParameters",
    "BuildVersion",
    "Condition",
    "Drain",
    "DrainMode",
    "DrainRequest",
    "ErrorDetail",
    "Operation",
    "OperationEvent",
    "OperationPage",
    "OperationParameters",
    "OperationRequest",
    "OperationResults",
    "OperationStatus",
    "OperationType",
    "OrphanFile",
    "ProblemDocument",
    "RequestModel",
    "ResponseModel",
    "RevokedToken",
    "StrategyInfo",
    "StrategyParameter",
    "SweepParameters",
    "TokenRevocation",
    "TrainingParameters",
    "Worker",
    "WorkerHealth",
    "WorkerRegistration",
    "WorkerStatus",
    "WorkerType",
]
