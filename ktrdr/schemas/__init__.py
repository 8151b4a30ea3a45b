"""What travels between backend, workers and clients, as pydantic models.

Importable without FastAPI, database or domain code. Times are aware and in UTC; fractions run
from 0 to 1. What market data is about stands in `ktrdr.schemas.data`, to be imported from there.
"""

from __future__ import annotations

from ktrdr.schemas.access import AuditEntry, RevokedToken, TokenRevocation
from ktrdr.schemas.base import (
    API_PREFIX,
    MAX_BATCH,
    NAME_PATTERN,
    OPERATION_ID_PATTERN,
    PLAIN_TEXT,
    Answer,
    Contract,
    Name,
)
from ktrdr.schemas.health import BackendHealth, Problem, Version
from ktrdr.schemas.operations import (
    LeftoverFile,
    Operation,
    OperationEvent,
    OperationFault,
    OperationPage,
    OperationRequest,
    OperationResults,
    OperationStatus,
    OperationType,
)
from ktrdr.schemas.strategies import StrategyInfo, StrategyParameter
from ktrdr.schemas.work import (
    BacktestParameters,
    Number,
    OperationParameters,
    ParameterName,
    SweepParameters,
    TrainingParameters,
    Values,
)
from ktrdr.schemas.workers import (
    Drain,
    DrainMode,
    DrainRequest,
    Worker,
    WorkerHealth,
    WorkerRegistration,
    WorkerStatus,
    WorkerType,
)

__all__ = [
    "API_PREFIX",
    "MAX_BATCH",
    "NAME_PATTERN",
    "OPERATION_ID_PATTERN",
    "PLAIN_TEXT",
    "Answer",
    "AuditEntry",
    "BackendHealth",
    "BacktestParameters",
    "Contract",
    "Drain",
    "DrainMode",
    "DrainRequest",
    "LeftoverFile",
    "Name",
    "Number",
    "Operation",
    "OperationEvent",
    "OperationFault",
    "OperationPage",
    "OperationParameters",
    "OperationRequest",
    "OperationResults",
    "OperationStatus",
    "OperationType",
    "ParameterName",
    "Problem",
    "RevokedToken",
    "StrategyInfo",
    "StrategyParameter",
    "SweepParameters",
    "TokenRevocation",
    "TrainingParameters",
    "Values",
    "Version",
    "Worker",
    "WorkerHealth",
    "WorkerRegistration",
    "WorkerStatus",
    "WorkerType",
]
