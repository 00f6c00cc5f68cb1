"""What can go wrong, by cause.

Every error that a user can act on is a :class:`SimFrcnnError`. The command line prints its message
without a traceback and exits with :attr:`SimFrcnnError.exit_code`. A message names what was found,
in which file, key or image, what is legal, and what to do.
"""

from __future__ import annotations


class SimFrcnnError(Exception):
    """Base of all errors that a user of simfrcnn can act on."""

    exit_code = 2


class ConfigError(SimFrcnnError):
    """A config key, a value, or a combination of them that cannot be honoured."""


class DataError(SimFrcnnError):
    """A data set, an annotation file or an image that cannot be used as it is."""


class AnnotationError(DataError):
    """A COCO file that is malformed or contradicts itself."""


class DicomError(DataError):
    """A DICOM file that cannot be read, or must not be read as a mammogram."""


class ArtifactError(SimFrcnnError):
    """A file of simfrcnn (detections, report ...) is missing, damaged or of another schema."""


class CheckpointError(SimFrcnnError):
    """A checkpoint or weights file that does not fit, is damaged, or must not be opened."""


class EngineError(SimFrcnnError):
    """An engine that is unknown, not installed, or of an unsupported version."""


class TrainingError(SimFrcnnError):
    """Training cannot go on, for instance because a loss is not finite."""


class OutputError(SimFrcnnError):
    """A result could not be written (disk full, no permission, already there)."""
