"""Errors that the HTTP client raises."""

from __future__ import annotations

import httpx
import pytest

from ktrdr.client.http import HttpClient
from ktrdr.errors import HostUnreachable


def _time_out(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("timed out", request=request)


def test_the_error_of_a_timeout_names_no_limit_because_requests_have_different_ones() -> None:
    transport = httpx.MockTransport(_time_out)
    with (
        HttpClient("http://backend:8000", None, transport=transport) as client,
        pytest.raises(HostUnreachable, match=r"^the backend at .* did not respond in time$"),
    ):
        client.request("PUT", "/data/SP500/1d", content=b"", timeout=600)
