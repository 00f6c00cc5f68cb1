"""How does any Detectron2 trainer read and write checkpoints of simfrcnn?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from simfrcnn.engines.common.cards import model_card
from simfrcnn.engines.common.checkpoints import (
    SAFETENSORS,
    Description,
    holds_detector,
    load_model_strictly,
    read_checkpoint,
    save_checkpoint,
)
from simfrcnn.engines.detectron2.meta_arch import NAME
from simfrcnn.training import recipe


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, writing files that are whole, safe to read, and say what they are.

    In a script with Detectron2's own ``DefaultTrainer``::

        def build_hooks(self):
            self.checkpointer = sim.Checkpointer(self.model, self.cfg, trainer=self)
            return super().build_hooks()

    What it writes is read by every command of simfrcnn, and by ``resume_or_load(resume=True)``.
    Files of other projects are read as the library reads them.
    """

    def __init__(self, model: nn.Module, cfg: Any, **checkpointables: Any) -> None:
        """Nothing is read or written yet.

        Args:
            model: Of ``SimFasterRCNN``, perhaps in its data-parallel shell.
            cfg: Whose ``OUTPUT_DIR`` is written to.
            **checkpointables: Whatever else is to be saved, such as ``trainer``.
        """
        super().__init__(model, cfg.OUTPUT_DIR, **checkpointables)
        self._cfg = cfg

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<name>.pth`` into the run folder, from the first process, and tag it as last."""
        if not (self.save_dir and self.save_to_disk):
            return
        path = Path(self.save_dir) / f"{name}.pth"
        bare: Any = _bare(self.model)
        parts = {key: part.state_dict() for key, part in self.checkpointables.items()}
        steps = int(kwargs.get("iteration", -1)) + 1
        save_checkpoint(
            path, bare, bare.identity, {**parts, **kwargs}, self._description().after(steps)
        )
        self.tag_last_checkpoint(path.name)

    def _description(self) -> Description:
        data = self._cfg.DATASETS
        card = model_card(
            self._cfg,
            engine=NAME,
            deviations=(),
            training=recipe.load_sets(self._cfg, data.TRAIN),
            validation=recipe.load_sets(self._cfg, data.VAL),
            world_size=comm.get_world_size(),
        )
        return Description.of(self._cfg, card)

    def _load_file(self, filename: str) -> Any:
        path = Path(filename)
        if path.suffix not in (".pth", SAFETENSORS) or not holds_detector(path):
            return super()._load_file(filename)
        bare: Any = _bare(self.model)
        content = read_checkpoint(path, bare.identity)
        return {**(content["training"] or {}), "model": content["model"], "simfrcnn": path}

    def _load_model(self, checkpoint: Any) -> Any:
        path = checkpoint.pop("simfrcnn", None)
        if path is None:
            return super()._load_model(checkpoint)
        load_model_strictly(_bare(self.model), checkpoint.pop("model"), path)
        return None


def _bare(model: nn.Module) -> nn.Module:
    inner: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
    return inner
