"""Market data through a real backend: import, listing, rejection, removal."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest

from ktrdr.client.backend import BackendClient
from ktrdr.errors import HostNotReady, InvalidParameters, NotFound, UsageError
from ktrdr.schemas import OperationRequest, OperationType
from ktrdr.schemas.data import GapPolicy, ImportRequest, Repair
from ktrdr.tokens import Role
from tests.integration.mounts import mounted
from tests.integration.processes import Runtime, ServerProcess, token

CSV = b"date,open,high,low,close\n2020-01-01,1,2,0.5,1\n2020-01-02,1,2,0.5,1.5\n"
WORSE = CSV + b"2020-01-03,a,2,3,4\n2020-01-02,1,2,0.5,1.5\n"
HOSTILE = ["..", ".", "../x", "a/b", "/etc/passwd", "..\\x", ".hidden", "a b", "a\0", "é", "x" * 65]


@pytest.fixture
def client(runtime: Runtime, backend: ServerProcess) -> BackendClient:
    return runtime.client(backend)


def test_imported_data_is_listed_described_and_removed(
    runtime: Runtime, client: BackendClient
) -> None:
    report = client.import_dataset(
        io.BytesIO(gzip.compress(CSV)), "X", "1d", ImportRequest(source="x.csv.gz")
    )
    file = runtime.shared / "data" / "X" / "1d.csv"
    assert report.dataset is not None
    assert report.dataset.data_hash == hashlib.sha256(file.read_bytes()).hexdigest()
    assert client.list_datasets() == [report.dataset]
    details = client.get_dataset("X", "1d")
    assert client.list_symbol_datasets("X") == [details]
    assert details.dataset == report.dataset
    assert details.provenance is not None
    assert details.provenance.source == "x.csv.gz"
    assert details.provenance.imported_by == "test operator"
    assert details.provenance.report == report
    client.remove_dataset("X", "1d")
    assert client.list_datasets() == []
    with pytest.raises(NotFound, match="there is no data for X 1d"):
        client.remove_dataset("X", "1d")


def test_an_invalid_file_is_rejected_with_its_lines_and_repaired_on_request(
    client: BackendClient,
) -> None:
    before = client.import_dataset(io.BytesIO(CSV), "X", "1d").dataset
    with pytest.raises(UsageError, match="line 4: 'a' is not a number; line 5: 2020-01-02"):
        client.import_dataset(io.BytesIO(WORSE), "X", "1d")
    assert client.list_datasets() == [before]
    checked = client.import_dataset(io.BytesIO(WORSE), "X", "1d", ImportRequest(dry_run=True))
    assert [(each.kind, each.lines) for each in checked.faults] == [
        ("unreadable", [4]),
        ("duplicate", [5]),
    ]
    assert not checked.accepted
    assert client.list_datasets() == [before]
    options = ImportRequest(
        repair=frozenset({Repair.DROP_BAD, Repair.DROP_DUPLICATES}), gaps=GapPolicy.REFUSE
    )
    mended = client.import_dataset(io.BytesIO(WORSE), "X", "1d", options)
    assert [(each.kind, each.repair) for each in mended.repairs] == [
        ("unreadable", "drop-bad"),
        ("duplicate", "drop-duplicates"),
    ]
    assert mended.dataset == before


def test_an_unknown_symbol_is_rejected_with_a_suggestion(client: BackendClient) -> None:
    client.import_dataset(io.BytesIO(CSV), "SP500", "1d")
    with pytest.raises(NotFound) as caught:
        client.list_symbol_datasets("SP5000")
    assert caught.value.hint == "Did you mean SP500? Available: SP500 1d."


def test_an_invalid_option_is_rejected(backend: ServerProcess) -> None:
    for query in ("repair=magic", "gaps=ignore", "delimiter=%2C", "dry_run=perhaps", "sort=yes"):
        answer = put(backend, f"X/1d?{query}")
        assert answer.status_code == 422, query
        assert answer.json()["type"] == "urn:ktrdr:problem:usage"
    for query in ("time_zone=Mars", "date_format=american", "source=a%0Ab", "time_zone=..%2F..%2F"):
        assert put(backend, f"X/1d?{query}").status_code == 422, query


def put(backend: ServerProcess, path: str, content: bytes = CSV) -> httpx.Response:
    return httpx.put(
        f"{backend.url}/api/v1/data/{path}",
        headers={"Authorization": f"Bearer {token(Role.OPERATOR).reveal()}"},
        content=content,
        timeout=30,
        trust_env=False,
    )


def raw(backend: ServerProcess, method: str, target: str, body: bytes = b"") -> int:
    """Send the unchanged target of a request, because clients normalise dots."""
    import http.client

    host, _, port = backend.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.putrequest(method, target, skip_accept_encoding=True)
    connection.putheader("Authorization", f"Bearer {token(Role.OPERATOR).reveal()}")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_out_of_the_data_directory(
    runtime: Runtime, client: BackendClient, backend: ServerProcess, name: str
) -> None:
    client.import_dataset(io.BytesIO(CSV), "X", "1d")
    (runtime.shared / "secret.csv").write_bytes(CSV)
    before = sorted(runtime.shared.rglob("*"))
    once, twice = quote(name, safe=""), quote(quote(name, safe=""), safe="")
    dots = name.replace(".", "%2e")
    for spelt in {once, twice, *([dots] if dots.isascii() and dots.isprintable() else [])}:
        if " " in spelt:
            continue
        for path in (f"{spelt}/1d", f"X/{spelt}", f"{spelt}/{spelt}"):
            for method in ("PUT", "GET", "DELETE"):
                status = raw(backend, method, f"/api/v1/data/{path}", CSV)
                assert status in (307, 400, 404, 405, 422), (method, path, status)
    for parameters in ({"symbol": name}, {"symbol": "X", "timeframe": name}):
        with pytest.raises(InvalidParameters):
            client.submit(
                OperationRequest(operation_type=OperationType.BACKTEST, parameters=parameters),
                idempotency_key=json.dumps(parameters),
            )
    for call in (client.get_dataset, client.remove_dataset):
        with pytest.raises(UsageError, match="cannot be the name"):
            call(name, "1d")
    assert sorted(runtime.shared.rglob("*")) == before


def test_simultaneous_imports_succeed_and_one_of_them_is_stored(
    runtime: Runtime, backend: ServerProcess, client: BackendClient
) -> None:
    contents = [CSV.replace(b"1.5", f"1.{price}".encode()) for price in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda content: put(backend, "X/1d", content), contents))
    assert [answer.status_code for answer in answers] == [201] * 8
    (found,) = client.list_datasets()
    assert found.state == "imported"
    assert found.data_hash in [answer.json()["dataset"]["data_hash"] for answer in answers]
    assert len(list((runtime.shared / "data" / "X").iterdir())) == 3


def test_an_unwritable_shared_directory_is_reported(
    runtime: Runtime, client: BackendClient, backend: ServerProcess
) -> None:
    (runtime.shared / "data").touch()
    with pytest.raises(HostNotReady, match="cannot be written") as caught:
        client.import_dataset(io.BytesIO(CSV), "X", "1d")
    assert "space and owner" in str(caught.value.hint)
    with (
        mounted(runtime.shared, runtime.shared, options="ro"),
        pytest.raises(HostNotReady, match="cannot write the upload"),
    ):
        client.import_dataset(io.BytesIO(CSV + b"\n" * 20_000_000), "X", "1d")
    assert client.list_datasets() == []
    runtime.shared.rename(runtime.shared.with_name("gone"))
    with pytest.raises(HostNotReady, match="is not the right one"):
        client.list_datasets()
    assert "Traceback" not in backend.output
