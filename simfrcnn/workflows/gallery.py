"""Which exams does a report show, and how much of their films? Options of ``evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simfrcnn.described import Options, described
from simfrcnn.errors import ConfigError
from simfrcnn.settings import EXAMS_PER_GROUP


@dataclass(frozen=True)
class GalleryOptions(Options):
    """What a report shows of exams.

    Example:
        >>> GalleryOptions(gallery=3).keywords
        {'pictures': True, 'gallery': 3, 'source_pictures': False}
    """

    no_images: bool = described(
        False,
        "pixels are not read, and image files may be missing: the exams are shown as boxes in "
        "empty frames",
    )
    gallery: int = described(
        EXAMS_PER_GROUP,
        "at most so many exams shown for each reason: worst false positives, missed lesions, "
        "found ones; 0 for none",
        legal="0 (no exams) or more in [0, inf)",
        metavar="N",
    )
    source_pictures: bool = described(
        False,
        "beside the report, a page for each exam shown with every stored pixel of its films, "
        "without loss: 10 to 20 MB for four films of 10 megapixels",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.no_images and self.source_pictures:
            raise ConfigError(
                "--source-pictures (source_pictures=True) shows the pixels of the films, which "
                "--no-images (pictures=False) does not read; give one of the two"
            )

    @property
    def keywords(self) -> dict[str, Any]:
        """The same as keywords of :func:`simfrcnn.evaluate` and :func:`simfrcnn.compare`."""
        return {
            "pictures": not self.no_images,
            "gallery": self.gallery,
            "source_pictures": self.source_pictures,
        }

    @property
    def of_report(self) -> dict[str, Any]:
        """The same as keywords of :func:`simfrcnn.evaluation.write_report`."""
        from simfrcnn.images.hanging import hung_pictures, source_pictures

        return {
            "load_pictures": None if self.no_images else hung_pictures,
            "load_sources": source_pictures if self.source_pictures else None,
            "n_gallery": self.gallery,
        }
