"""Breast cancer detection in mammograms that learns from unannotated normal images.

Importing this package costs nothing: neither engine, nor torch, is loaded here.
"""

from simfrcnn.version import __version__

__all__ = ["__version__"]
