"""No test opens a network socket, but those of the folders below, which drive real services on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
WITH_SERVICES = {"chain", "dev", "integration", "packaging", "workers"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with real services may open sockets; all others fail where they try (`--disable-socket`)."""
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.relative_to(HERE).parts[0] in WITH_SERVICES:
            item.add_marker(pytest.mark.enable_socket)
