"""From the first schema to the last, with operations in it and a worker of the release before."""

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

from ktrdr.database.migrate import LOCK_TIMEOUT_MS, migrate, missing
from ktrdr.errors import DatabaseUnavailable
from ktrdr.fleet import schema
from ktrdr.schemas import OperationStatus
from ktrdr.settings import Settings
from ktrdr.tokens import Role
from tests.integration.postgres import Server
from tests.integration.processes import Process, Site, site, token, wait_for
from tests.integration.releases import release_before

DATA = Path(__file__).parents[1] / "data" / "sp500_2007_2009.csv"
LONG = {"symbol": "SP500", "epochs": 400, "hidden_units": [64, 64]}
QUICK = {"symbol": "SP500", "epochs": 2}
# As the release before wrote it; nobody submits this any more.
CROSS = {
    "symbol": "SP500",
    "train_bars": 200,
    "folds": 2,
    "fast_windows": [5],
    "slow_windows": [20],
}


class Caller:
    """Asks a backend of any release, by HTTP alone."""

    def __init__(self, backend: Process) -> None:
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
        found: dict[str, Any] = answer.json()
        return found

    def ended(self, operation_id: str, seconds: float = 90) -> dict[str, Any]:
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
        found: dict[str, Any] = self._http.get(f"/operations/{operation_id}/results").json()
        return found

    def close(self) -> None:
        self._http.close()


def test_operations_live_through_an_upgrade_with_a_worker_of_the_release_before(
    empty_database: Settings, tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    before = {
        "PYTHONPATH": str(release_before(tmp_path / "before")),
        "IMAGE_TAG": "sha-before",
    }
    with site(empty_database, tmp_path) as place:
        old = place.backend(None, **before)
        worker = place.worker("training", old, port=None, **before)
        backtester = place.worker("backtest", old, port=None, **before)
        ask = Caller(old)
        ask.put_data()
        done = ask.ended(ask.submit("training", QUICK))
        assert done["status"] == "completed"
        failed = ask.ended(ask.submit("training", {**QUICK, "symbol": "NONE"}))
        running = ask.submit("training", LONG)
        wait_for("its start", lambda: ask.get(running)["progress"] > 0.02)
        waiting = ask.submit("training", QUICK)
        cancelled = ask.submit("training", QUICK)
        ask.cancel(cancelled)
        backtester.stop()
        crossing = ask.submit("backtest", CROSS)
        port = int(old.url.rpartition(":")[2])
        old.stop()
        ask.close()

        new = place.backend(port, IMAGE_TAG="sha-after")
        ask = Caller(new)
        assert ask.listed() == 6
        assert ask.results(done["operation_id"])["summary"]["test_accuracy"] > 0
        assert ask.get(failed["operation_id"])["error"]["message"] == "there is no data for NONE 1d"
        # It goes on under the new schema: renews, checkpoints, reports its progress.
        reached = ask.get(running)["progress"]
        wait_for("its progress", lambda: ask.get(running)["progress"] > reached + 0.02)
        assert ask.get(running)["worker_id"].startswith("training-127-")
        wait_for("its check", lambda: ask.workers() == {"sha-before"})
        refused = run_schema(place, "contract", IMAGE_TAG="sha-after")
        assert refused.returncode == 9
        assert (
            "workers of another release than sha-after still work: training-127-" in refused.stderr
        )

        worker.stop()
        place.worker("training", new, IMAGE_TAG="sha-after")
        place.worker("backtest", new, IMAGE_TAG="sha-after")
        for each in (running, waiting, crossing, ask.submit("training", QUICK)):
            ended = ask.ended(each)
            assert ended["status"] == "completed", ended["error"]
        assert ask.get(cancelled)["status"] == "cancelled"
        wait_for("the new workers", lambda: ask.workers() == {"sha-after"})
        assert "post: 0003_setbacks" in run_schema(place, "status").stdout
        assert (
            "applied 0003_setbacks" in run_schema(place, "contract", IMAGE_TAG="sha-after").stdout
        )
        assert "nothing to do" in run_schema(place, "contract", IMAGE_TAG="sha-after").stdout
        assert ask.ended(ask.submit("training", QUICK))["status"] == "completed"
        ask.close()


def run_schema(place: Site, word: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ktrdr.fleet.schema", word],
        env=place.environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_what_a_worker_of_the_release_before_cannot_read_waits_for_one_that_can(
    empty_database: Settings, tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    before = {"PYTHONPATH": str(release_before(tmp_path / "before"))}
    with site(empty_database, tmp_path) as place:
        backend = place.backend()
        place.worker("backtest", backend, port=None, **before)
        ask = Caller(backend)
        ask.put_data()
        parameters = {"symbol": "SP500", "train_bars": 200, "strategy": "buy_and_hold"}
        operation = ask.submit("backtest", parameters)
        new = place.worker("backtest", backend)
        ended = ask.ended(operation)
        assert (ended["status"], ended["attempt"]) == ("completed", 1)
        assert ended["worker_id"].endswith(new.url.rpartition(":")[2])
        ask.close()


def test_the_schema_is_the_same_whether_it_grew_or_was_made_at_once(
    postgres: Server, tmp_path: Path
) -> None:
    def shape(settings: Settings) -> list[tuple[Any, ...]]:
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
        assert shape(at_once) == shape(in_steps)
        assert not any(row[:2] == ("operations", "lost_leases") for row in shape(in_steps))
        assert asyncio.run(missing(in_steps, "post")) == []
        assert schema.main(["status", "twice"]) in (2, 3)


def test_a_migration_that_finds_its_table_in_use_gives_up_and_changes_nothing(
    postgres: Server, empty_database: Settings, monkeypatch: pytest.MonkeyPatch
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
        with pytest.raises(DatabaseUnavailable, match="0003_setbacks found its tables in use"):
            asyncio.run(migrate(empty_database, ("post",)))
        holder.rollback()
    assert asyncio.run(migrate(empty_database, ("post",))) == ["0003_setbacks"]
    assert OperationStatus.COMPLETED.is_final
