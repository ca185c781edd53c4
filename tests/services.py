"""Which real services a test needs; absent ones skip on a laptop and fail in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing_service(name: str, mend: str) -> NoReturn:
    """Skip the test, or fail it where OPGATE_REQUIRE_SERVICES is set."""
    reason = f"{name} is not here: {mend}"
    if os.environ.get("OPGATE_REQUIRE_SERVICES"):
        pytest.fail(reason)
    pytest.skip(reason)
