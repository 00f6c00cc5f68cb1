"""Every contract test runs on every engine that is there, most of them with both heads."""

from __future__ import annotations

from typing import Any

import pytest

from support.examples import ENGINE_PARAMETERS, HEADS, engine_named


@pytest.fixture(params=ENGINE_PARAMETERS)
def engine(request: pytest.FixtureRequest) -> Any:
    """One engine after the other."""
    return engine_named(request.param)


@pytest.fixture(params=HEADS)
def heads(request: pytest.FixtureRequest) -> str:
    """C4 (res5 as box head), then FPN."""
    return str(request.param)
