"""What a divergence says of how to go on."""

import pytest
from torch import nn

from simfrcnn.engines.common.checkpoints import Identity
from simfrcnn.engines.common.failures import report_divergence
from support.examples import positives


@pytest.mark.parametrize(
    ("has_checkpoint", "way_on"),
    [(True, "--resume goes on from it"), (False, "--resume starts at the beginning")],
)
def test_only_a_checkpoint_that_is_there_is_gone_on_from(tmp_path, has_checkpoint, way_on):
    if has_checkpoint:
        (tmp_path / "model_last.pth").touch()
    error = report_divergence(
        cause="loss_cls",
        step=3,
        samples=positives(1),
        losses={"loss_cls": float("nan")},
        model=nn.Linear(1, 1),
        identity=Identity("an engine", {}),
        folder=tmp_path,
    )
    assert str(error).endswith(f": {way_on}.")
