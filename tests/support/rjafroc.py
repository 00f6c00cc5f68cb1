"""RJafroc's shipped data sets, from a checkout that the developer names.

They are under the GPL, so that none of them is part of this project; the published figures are in
the tests that use them. ``SIMFRCNN_RJAFROC`` names a checkout of ``dpc10ster/RJafroc``, and the
package ``rdata`` reads its files; without them these tests are skipped. The same formulas are
tested everywhere by slow twins.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def rjafroc_data(name: str) -> dict[str, Any]:
    """A data set of RJafroc, such as ``dataset04``, as nested dictionaries of arrays."""
    folder = os.environ.get("SIMFRCNN_RJAFROC")
    if not folder:
        pytest.skip("SIMFRCNN_RJAFROC does not name a checkout of RJafroc")
    rdata = pytest.importorskip("rdata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = rdata.read_rda(Path(folder) / "data" / f"{name}.RData")
    return next(iter(loaded.values()))


def ratings(data: dict[str, Any], kind: str) -> np.ndarray:
    """``NL`` or ``LL``: (modalities, readers, cases, marks), -inf where there is no mark."""
    return np.asarray(data["ratings"][kind], dtype=np.float64)
