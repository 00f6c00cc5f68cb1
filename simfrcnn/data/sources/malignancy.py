"""Which published finding counts as malignant, by the rule that the user chose?

For the sets that come from DDSM: each abnormality has a pathology and a BI-RADS assessment.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from simfrcnn.described import described
from simfrcnn.records import Pathology
from simfrcnn.registry import require_known

DEFAULT_RULE = "pathology"
RULES = {
    "pathology": "malignant: the published pathology MALIGNANT; benign: BENIGN and "
    "BENIGN_WITHOUT_CALLBACK; UNPROVEN: no box, and the film is not boxed completely",
    "assessment": "malignant: the published BI-RADS assessment 4 or 5; benign: 1 to 3; 0 "
    "(incomplete): no box, and the film is not boxed completely",
}
"""Name of a rule -> what it says, for the annotation file."""
PATHOLOGIES = ("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK", "UNPROVEN")


def require_rule(rule: str) -> None:
    """Refuse a rule that does not exist."""
    require_known("the rule for malignant", [rule], RULES)


def category_by(rule: str, pathology: str, assessment: int) -> str | None:
    """``malignant`` or ``benign``; None where the rule says nothing of the finding.

    Args:
        rule: One of :data:`RULES`.
        pathology: One of :data:`PATHOLOGIES`.
        assessment: BI-RADS category, 0 where it is incomplete.
    """
    if rule == "assessment":
        unknown, is_malignant = assessment == 0, assessment >= 4
    else:
        unknown, is_malignant = pathology == "UNPROVEN", pathology == "MALIGNANT"
    if unknown:
        return None
    return "malignant" if is_malignant else "benign"


def pathology_of(rule: str, pathologies: Collection[str]) -> Pathology | None:
    """The pathology of a finding, film or breast, from all that is published of it.

    None where nothing is proven, and where the user goes by the assessment, which a pathology would
    contradict.
    """
    if rule != "pathology":
        return None
    if "MALIGNANT" in pathologies:
        return Pathology.MALIGNANT
    return Pathology.BENIGN if pathologies and "UNPROVEN" not in pathologies else None


def malignant_option() -> Any:
    """The option of a set that comes from DDSM: one of :data:`RULES`."""
    return described(
        DEFAULT_RULE,
        "what is malignant: by pathology (default), or by a BI-RADS assessment of 4 or 5",
        choices=RULES,
    )
