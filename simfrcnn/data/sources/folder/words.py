"""Which words of reports and registries mean the same everywhere?

They are used with a mapping file only, and the run says how each was read. What means different
things in different houses (`suspicious`, `atypia`, `positive`) is not among them.
"""

from __future__ import annotations

_MALIGNANT = (
    *("malign", "maligne", "maligno", "cancer", "carcinoma", "idc", "ilc", "dcis", "nst"),
    *("invasive ductal carcinoma", "invasive lobular carcinoma", "ductal carcinoma in situ"),
    *("invasive carcinoma of no special type", "invasive breast cancer", "tubular carcinoma"),
    *("mucinous carcinoma", "medullary carcinoma", "papillary carcinoma", "inflammatory carcinoma"),
)
_BENIGN = (
    *("benigne", "benigno", "fibroadenoma", "cyst", "simple cyst", "lipoma", "hamartoma"),
    *("fat necrosis", "oil cyst", "benign_without_callback", "intramammary lymph node"),
)
_NORMAL = ("normal breast", "negative", "no finding", "no findings")
_OTHER_VIEWS = ("ml", "lm", "lmo", "sio", "xccl", "xccm", "xcc", "fb", "at", "cv", "isl", "tan")

USUAL = {
    "label": {
        **dict.fromkeys(_MALIGNANT, "malignant"),
        **dict.fromkeys(_BENIGN, "benign"),
        **dict.fromkeys(_NORMAL, "normal"),
        **dict.fromkeys(("unknown", "not known"), "unlabelled"),
    },
    "laterality": {
        **dict.fromkeys(("left", "links", "lt", "gauche", "sinistra"), "L"),
        **dict.fromkeys(("right", "rechts", "rt", "droite", "destra"), "R"),
    },
    "view": {
        **dict.fromkeys(("lcc", "rcc", "l-cc", "r-cc", "craniocaudal", "cranio-caudal"), "CC"),
        **dict.fromkeys(("lmlo", "rmlo", "l-mlo", "r-mlo", "mediolateral oblique"), "MLO"),
        **dict.fromkeys(_OTHER_VIEWS, "other"),
    },
    "density": {
        f"{before}{word}": ours
        for before in ("", "acr", "acr ", "birads ", "bi-rads ")
        for ours, words in (("A", "1a"), ("B", "2b"), ("C", "3c"), ("D", "4d"))
        for word in words
    },
}
"""Column -> word in small letters -> ours."""
