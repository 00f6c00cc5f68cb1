"""In which precision are the steps of a training computed, and detections, and why?

A GPU computes in float16 what ``SOLVER.AMP.ENABLED`` lets it. Some CPUs have units for bfloat16,
which has float32's range, so that no loss needs scaling. A CPU without them converts every operand
and is slower than in float32.

Whatever is used, weights, optimiser and checkpoints are float32, and so are the logits and box
deltas that both heads give out, and with them matching, decoding, suppression, ranking and every
loss. Only training is meant: detection has a key of its own, ``TEST.AMP.ENABLED``, and runs in
float32 without it.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

Kind = Literal["float32", "bfloat16", "float16"]

_UNITS = {"avx512_bf16": "_is_avx512_bf16_supported", "amx_bf16": "_is_amx_tile_supported"}
"""The CPU flags, and torch's functions that report them; every CPU with AMX tiles has amx_bf16."""


@dataclass(frozen=True)
class Precision:
    """What a config asks for on this machine, what is used, and why."""

    asked: Literal["float32", "mixed", "auto"]
    used: Kind
    why: str

    @property
    def is_mixed(self) -> bool:
        """Whether anything is computed in 16 bits."""
        return self.used != "float32"

    def autocast(self, device_type: str) -> torch.autocast:
        """The context for a forward pass; of ``float32`` it changes nothing."""
        dtype = torch.bfloat16 if self.used == "bfloat16" else torch.float16
        return torch.autocast(device_type, dtype if self.is_mixed else None, enabled=self.is_mixed)

    def log(self, logger: logging.Logger, what: str = "training") -> None:
        """Say it, unless plain float32 was asked for; a request that is not met is a warning."""
        if self.asked == "float32":
            return
        level = logging.WARNING if self.asked == "mixed" and not self.is_mixed else logging.INFO
        logger.log(level, "%s computes in %s: %s", what, self.used, self.why)

    def to_dict(self) -> dict[str, str]:
        """For the manifest."""
        return asdict(self)


def bf16_units() -> tuple[str, ...]:
    """The flags of this CPU that make bfloat16 faster than float32; empty if it has none."""
    # Without oneDNN torch has bfloat16 kernels that do not use them.
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return ()
    return tuple(flag for flag, name in _UNITS.items() if _torch_finds(name))


def training_precision(cfg: Any) -> Precision:
    """What ``SOLVER.AMP`` comes to on ``MODEL.DEVICE``.

    ``ENABLED`` asks for mixed precision. ``AUTO_ON_CPU`` takes it on a CPU that has units for
    bfloat16, and is content with float32 on another; it says nothing about GPUs.

    Example:
        >>> from simfrcnn.config import portable_defaults, add_simfrcnn_config
        >>> cfg = portable_defaults()
        >>> add_simfrcnn_config(cfg)
        >>> training_precision(cfg).used
        'float32'
    """
    amp, device = cfg.SOLVER.AMP, torch.device(cfg.MODEL.DEVICE).type
    if device == "cpu" and not amp.ENABLED and amp.AUTO_ON_CPU:
        return _on_cpu("auto")
    return _asked_by("SOLVER.AMP.ENABLED", amp.ENABLED, device)


def detection_precision(cfg: Any) -> Precision:
    """What ``TEST.AMP.ENABLED`` comes to on ``MODEL.DEVICE``.

    Example:
        >>> from simfrcnn.config import portable_defaults, add_simfrcnn_config
        >>> cfg = portable_defaults()
        >>> add_simfrcnn_config(cfg)
        >>> detection_precision(cfg).why
        'TEST.AMP.ENABLED is False'
    """
    device = torch.device(cfg.MODEL.DEVICE).type
    return _asked_by("TEST.AMP.ENABLED", cfg.TEST.AMP.ENABLED, device)


def _asked_by(key: str, enabled: bool, device: str) -> Precision:
    if not enabled:
        return Precision("float32", "float32", f"{key} is False")
    return (
        _on_cpu("mixed") if device == "cpu" else Precision("mixed", "float16", f"{key} on {device}")
    )


def _on_cpu(asked: Literal["mixed", "auto"]) -> Precision:
    if units := bf16_units():
        return Precision(asked, "bfloat16", f"this CPU has {' and '.join(units)}")
    why = f"this CPU has neither {' nor '.join(_UNITS)}, without which bfloat16 is slower"
    return Precision(asked, "float32", why)


def _torch_finds(name: str) -> bool:
    """What torch says of this CPU; a torch without the function does not know such units."""
    function = getattr(torch.cpu, name, None)
    return bool(function and function())
