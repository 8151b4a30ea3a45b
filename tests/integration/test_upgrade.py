"""Upgrade of the schema with operations in it and a worker of the previous release."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql

from ktrdr.database.migrate import LOCK_TIMEOUT_MS, list_pending, migrate
from ktrdr.errors import DatabaseUnavailable
from ktrdr.fleet import schema
from ktrdr.schemas import OperationStatus
from ktrdr.settings import Settings
from ktrdr.tokens import Role
from tests.integration.postgres import PostgresServer
from tests.integration.processes import Runtime, ServerProcess, open_runtime, token, wait_for
from tests.integration.releases import unpack_previous_release

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
LONG = {"symbol": "SP500", "epochs": 400, "hidden_units": [64, 64]}
QUICK = {"symbol": "SP500", "epochs": 2}
# Parameters of the previous release, which this release still reads.
CROSS = {
    "symbol": "SP500",
    "train_bars": 200,
    "folds": 2,
    "fast_windows": [5],
    "slow_windows": [20],
}


class ApiClient:
    """Client of a backend of any release, by HTTP alone."""

    def __init__(self, backend: ServerProcess) -> None:
        self._http = httpx.Client(
            base_url=f"{backend.url}/api/v1",
            headers={"Authorization": f"Bearer {token(Role.OPERATOR).reveal()}"},
            trust_env=False,
            timeout=30,
        )

    def submit(self, kind: str, parameters: dict[str, Any]) -> str:
        body = {"operation_type": kind, "parameters": parameters}
        answer = self._http.post("/operations", json=body, headers={"Idempotency-Key": uuid4().hex})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["operation_id"])

    def get(self, operation_id: str) -> dict[str, Any]:
        answer = self._http.get(f"/operations/{operation_id}")
        assert answer.is_success, answer.text
        operation: dict[str, Any] = answer.json()
        return operation

    def wait_for_end(self, operation_id: str, seconds: float = 90) -> dict[str, Any]:
        wait_for(operation_id, lambda: self.get(operation_id)["finished_at"], seconds)
        return self.get(operation_id)

    def put_data(self) -> None:
        assert self._http.put("/data/SP500/1d", content=DATA.read_bytes()).is_success

    def cancel(self, operation_id: str) -> None:
        assert self._http.delete(f"/operations/{operation_id}").is_success

    def workers(self) -> set[str]:
        return {each["version"] for each in self._http.get("/workers").json()}

    def listed(self) -> int:
        return len(self._http.get("/operations", params={"limit": 100}).json()["operations"])

    def results(self, operation_id: str) -> dict[str, Any]:
        results: dict[str, Any] = self._http.get(f"/operations/{operation_id}/results").json()
        return results

    def close(self) -> None:
        self._http.close()


def test_operations_survive_an_upgrade_with_a_worker_of_the_previous_release(
    empty_database: Settings, tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    before = {
        "PYTHONPATH": str(unpack_previous_release(tmp_path / "before")),
        "IMAGE_TAG": "sha-before",
    }
    with open_runtime(empty_database, tmp_path) as runtime:
        old = runtime.backend(None, **before)
        worker = runtime.worker("training", old, port=None, **before)
        backtester = runtime.worker("backtest", old, port=None, **before)
        api = ApiClient(old)
        api.put_data()
        done = api.wait_for_end(api.submit("training", QUICK))
        assert done["status"] == "completed"
        failed = api.wait_for_end(api.submit("training", {**QUICK, "symbol": "NONE"}))
        running = api.submit("training", LONG)
        wait_for("its start", lambda: api.get(running)["progress"] > 0.02)
        waiting = api.submit("training", QUICK)
        cancelled = api.submit("training", QUICK)
        api.cancel(cancelled)
        backtester.stop()
        crossing = api.submit("backtest", CROSS)
        port = int(old.url.rpartition(":")[2])
        old.stop()
        api.close()

        new = runtime.backend(port, IMAGE_TAG="sha-after")
        api = ApiClient(new)
        assert api.listed() == 6
        assert api.results(done["operation_id"])["summary"]["test_accuracy"] > 0
        assert api.get(failed["operation_id"])["error"]["message"] == "there is no data for NONE 1d"
        # The old worker continues under the new schema: it renews, checkpoints and reports.
        reached = api.get(running)["progress"]
        wait_for("its progress", lambda: api.get(running)["progress"] > reached + 0.02)
        assert api.get(running)["worker_id"].startswith("training-127-")
        wait_for("its check", lambda: api.workers() == {"sha-before"})
        refused = run_schema(runtime, "contract", IMAGE_TAG="sha-after")
        assert refused.returncode == 9
        assert "some workers run a release other than sha-after: training-127-" in refused.stderr

        worker.stop()
        runtime.worker("training", new, IMAGE_TAG="sha-after")
        runtime.worker("backtest", new, IMAGE_TAG="sha-after")
        for operation_id in (running, waiting, crossing, api.submit("training", QUICK)):
            ended = api.wait_for_end(operation_id)
            assert ended["status"] == "completed", ended["error"]
        assert api.get(cancelled)["status"] == "cancelled"
        wait_for("the new workers", lambda: api.workers() == {"sha-after"})
        assert "post: 0003_setbacks" in run_schema(runtime, "status").stdout
        assert (
            "applied 0003_setbacks" in run_schema(runtime, "contract", IMAGE_TAG="sha-after").stdout
        )
        assert "nothing to do" in run_schema(runtime, "contract", IMAGE_TAG="sha-after").stdout
        assert api.wait_for_end(api.submit("training", QUICK))["status"] == "completed"
        api.close()


def run_schema(runtime: Runtime, word: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ktrdr.fleet.schema", word],
        env=runtime.environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_an_operation_that_the_previous_release_cannot_read_waits_for_a_newer_worker(
    empty_database: Settings, tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    before = {"PYTHONPATH": str(unpack_previous_release(tmp_path / "before"))}
    with open_runtime(empty_database, tmp_path) as runtime:
        backend = runtime.backend()
        runtime.worker("backtest", backend, port=None, **before)
        api = ApiClient(backend)
        api.put_data()
        parameters = {"symbol": "SP500", "train_bars": 200, "strategy": "buy_and_hold"}
        operation = api.submit("backtest", parameters)
        new = runtime.worker("backtest", backend)
        ended = api.wait_for_end(operation)
        assert (ended["status"], ended["attempt"]) == ("completed", 1)
        assert ended["worker_id"].endswith(new.url.rpartition(":")[2])
        api.close()


def test_the_schema_is_the_same_after_migration_in_steps_and_in_one_go(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    def read_columns(settings: Settings) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host=settings.db_host,
            port=settings.db_port,
            dbname=settings.db_name,
            user=settings.db_user.reveal(),
            password=settings.db_password.reveal(),
        ) as connection:
            return connection.execute(
                "SELECT table_name, column_name, data_type, is_nullable FROM"
                " information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
            ).fetchall()

    with postgres.database() as at_once, postgres.database() as in_steps:
        asyncio.run(migrate(at_once, ("pre", "post")))
        asyncio.run(migrate(in_steps))
        asyncio.run(migrate(in_steps))
        asyncio.run(migrate(in_steps, ("post",)))
        assert read_columns(at_once) == read_columns(in_steps)
        assert not any(row[:2] == ("operations", "lost_leases") for row in read_columns(in_steps))
        assert asyncio.run(list_pending(in_steps, "post")) == []
        assert schema.main(["status", "twice"]) in (2, 3)


def test_a_migration_whose_table_is_in_use_fails_and_changes_nothing(
    postgres: PostgresServer, empty_database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(migrate(empty_database))
    monkeypatch.setattr("ktrdr.database.migrate.LOCK_TIMEOUT_MS", 200)
    assert LOCK_TIMEOUT_MS >= 1000
    with psycopg.connect(
        host=empty_database.db_host,
        port=empty_database.db_port,
        dbname=empty_database.db_name,
        user=empty_database.db_user.reveal(),
        password=empty_database.db_password.reveal(),
    ) as holder:
        holder.execute(sql.SQL("LOCK TABLE operations IN ACCESS SHARE MODE"))
        with pytest.raises(
            DatabaseUnavailable, match="tables of migration 0003_setbacks were in use"
        ):
            asyncio.run(migrate(empty_database, ("post",)))
        holder.rollback()
    assert asyncio.run(migrate(empty_database, ("post",))) == ["0003_setbacks"]
    assert OperationStatus.COMPLETED.is_final
