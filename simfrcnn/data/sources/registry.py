"""Which data sets can be prepared? A new one is a reader that ends with its entry, and a line."""

from __future__ import annotations

from collections.abc import Mapping

from simfrcnn.data.sources import chestxray14, cmmd, inbreast, mias, rsna, vindr_mammo
from simfrcnn.data.sources.cbis_ddsm import source as cbis_ddsm
from simfrcnn.data.sources.coco import source as coco
from simfrcnn.data.sources.ddsm import reader as ddsm
from simfrcnn.data.sources.folder import reader as folder
from simfrcnn.data.sources.source import Source
from simfrcnn.registry import require_known

SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (
        mias.SOURCE,
        cbis_ddsm.SOURCE,
        ddsm.SOURCE,
        inbreast.SOURCE,
        vindr_mammo.SOURCE,
        rsna.SOURCE,
        cmmd.SOURCE,
        chestxray14.SOURCE,
        coco.SOURCE,
        folder.SOURCE,
    )
}


def source_named(name: str) -> Source:
    """The source of a name.

    Raises:
        ConfigError: There is none; says which there are, and the nearest.
    """
    require_known("the source", [name], list(SOURCES))
    return SOURCES[name]
