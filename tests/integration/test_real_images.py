"""The script that tries the real images, with stand-ins for docker, curl and make."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

# Answers of a stack that works. Each call is recorded.
DOCKER = r"""#!/bin/sh
echo "docker $*" >>"$RECORD"
case "$*" in
    *' up '*"$FAILS"*) exit 1 ;;
esac
case "$*" in
    *'SHOW max_connections'*) echo "$ALLOWED" ;;
    *extversion*) echo 2.30.2 ;;
    *'token create'*) echo a-token ;;
    *'operations submit'*) echo '{"status": "completed", "trace_id": "0123abcd"}' ;;
esac
cat >/dev/null 2>&1 || :
"""
CURL = r"""#!/bin/sh
echo "curl $*" >>"$RECORD"
case "$*" in
    *api/v1/query*) echo '{"data":{"result":[{"value":[1.5,"2"]}]}}' ;;
    */api/v3/traces/0123abcd*) echo '"ktrdr-backend" "ktrdr-backtest-worker"' ;;
    */api/v3/services*) echo "{\"services\": [$SERVICES]}" ;;
    */health) echo '{"status": "OK"}' ;;
    */api/search*) echo '[{"type": "dash-db"}, {"type": "dash-db"}]' ;;
esac
"""
SCRIPT = Path(__file__).resolve().parents[2] / "scripts/real-images"
PROGRAMS = {"docker": DOCKER, "curl": CURL, "sleep": "#!/bin/sh\n"}
WORKS = {"ALLOWED": "123", "SERVICES": '"ktrdr-backend"', "FAILS": "nothing"}


@pytest.fixture
def run(tmp_path: Path):
    """Return a function that runs the script, and returns the result and the recorded calls."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    record = tmp_path / "record"

    def run(**answers: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        done = subprocess.run(
            [SCRIPT],
            env={
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "RECORD": str(record),
                "TMPDIR": str(tmp_path),
                "TAG": "sha-abc1234",
                **WORKS,
                **answers,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done, record.read_text().splitlines()

    return run


def removed(calls: list[str]) -> bool:
    return any(
        "-f docker-compose.core.yml" in call and " down --volumes " in call for call in calls
    )


def test_a_stack_that_works_is_checked_and_removed(run, tmp_path) -> None:
    done, calls = run()
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("ok: ")]
    assert "ok: PostgreSQL allows as many connections as it is told" in said
    assert [line for line in said if "Grafana reads" in line] == [
        "ok: Grafana reads from prometheus",
        "ok: Grafana reads from jaeger",
    ]
    assert len(said) == 13
    assert removed(calls)
    # Nothing remains, and nothing of a stack that runs on this machine was touched.
    assert {path.name for path in tmp_path.iterdir()} == {*PROGRAMS, "record"}
    assert all("ktrdr-real-images" in call for call in calls if " compose " in call)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"ALLOWED": "50"}, "failed: PostgreSQL allows as many connections as it is told"),
        (
            {"SERVICES": '"jaeger", "ktrdr-backend"'},
            "failed: Jaeger has traced no request to itself",
        ),
        ({"FAILS": "--wait"}, ""),
    ],
)
def test_what_does_not_work_fails_and_is_removed_too(run, tmp_path, answers, said) -> None:
    done, calls = run(**answers)
    assert done.returncode == 1
    assert said in done.stderr
    assert removed(calls)
    assert any(" logs --tail " in call for call in calls)
    assert {path.name for path in tmp_path.iterdir()} == {*PROGRAMS, "record"}


def test_no_secret_is_an_argument(run) -> None:
    _, calls = run()
    for call in calls:
        assert "a-token" not in call
        assert "admin:" not in call
        assert "PASSWORD '" not in call
