"""The libraries of the extra ``node``, loaded when a connection needs them."""

from __future__ import annotations

import importlib
from typing import Any

from simfrcnn.errors import ConfigError


def import_pynetdicom() -> Any:
    """pynetdicom with its module ``sop_class``.

    Raises:
        ConfigError: It is not installed; names the extra.
    """
    library = _imported("pynetdicom", "DICOM associations (simfrcnn node, --to AE@HOST:PORT) need")
    _imported("pynetdicom.sop_class", "DICOM associations need")
    return library


def import_dicomweb() -> Any:
    """dicomweb_client.

    Raises:
        ConfigError: It is not installed; names the extra.
    """
    return _imported("dicomweb_client", "DICOMweb (simfrcnn pull, --to http...) needs")


def _imported(name: str, what_needs: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        library = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != library:
            raise
        raise ConfigError(
            f"{what_needs} {library.replace('_', '-')}, which is not installed: "
            "pip install 'simfrcnn[node]'"
        ) from error
