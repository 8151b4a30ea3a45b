"""Identities for tests that bypass the API."""

from __future__ import annotations

from datetime import UTC, datetime

from ktrdr.tokens import Identity, Role

ADA = Identity("ada", Role.OPERATOR, None, "a-token", datetime(2100, 1, 1, tzinfo=UTC))
