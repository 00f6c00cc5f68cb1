"""Which of several models is shown to be no worse than which, by a stated margin?"""

from __future__ import annotations

import itertools
import math
from typing import Any

from simfrcnn.evaluation.margins import claims_of
from simfrcnn.evaluation.ranking import ModelsCompared
from simfrcnn.evaluation.reporting.documents import Table
from simfrcnn.evaluation.results import Figure

NO_INTERVAL = "nothing: the difference has no interval"
NO_WIDTH = "nothing: the interval has no width, as no resampled set gave another difference"


def claims_on_models(compared: ModelsCompared, margin: float) -> dict[tuple[str, str], str]:
    """What is shown of the first of two models against the second, by the metric that ranks."""
    if compared.too_few:
        return dict.fromkeys(itertools.permutations(compared.models, 2), compared.too_few)
    claims = {}
    for first, second in itertools.permutations(compared.models, 2):
        difference = compared.difference(first, second, compared.primary)
        claims[first, second] = _claim_on(difference, margin)
    return claims


def _claim_on(difference: Figure, margin: float) -> str:
    """Percentiles of resampled sets that are all alike do not say how sure a difference is."""
    if math.isnan(difference.low) or math.isnan(difference.high):
        return NO_INTERVAL
    if difference.low == difference.high:
        return NO_WIDTH
    return str(claims_of(difference.low, difference.high, margin))


def margin_table(compared: ModelsCompared, margin: float) -> Table:
    """One row for each ordered pair."""
    rows = [
        (first, second, claim)
        for (first, second), claim in claims_on_models(compared, margin).items()
    ]
    caption = (
        f"By a margin of {margin:g} in {compared.primary_name}, stated beforehand: superior where "
        "the interval of the difference is above 0, non-inferior where it is above minus the "
        "margin, equivalent where it lies within the margin on both sides; not adjusted for the "
        "number of pairs"
    )
    return Table(("model", "against", "shown"), rows, caption)


def claims_json(compared: ModelsCompared, margin: float | None) -> dict[str, Any]:
    """The same in JSON types; nothing without a margin."""
    if margin is None:
        return {}
    claims = claims_on_models(compared, margin)
    return {
        "margin": margin,
        "claims": [
            {"model": first, "against": second, "shown": claim}
            for (first, second), claim in claims.items()
        ],
    }
