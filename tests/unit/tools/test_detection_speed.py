"""The measurement of detection does what `predict` does, flips included."""

import pytest

from benchmarks import speed
from simfrcnn.engines.common import flips
from support.examples import engine_named, positives, smoke_config

pytestmark = pytest.mark.torchvision


@pytest.mark.parametrize(("value", "n_flips"), [("none", 0), ("horizontal", 2), ("all", 4)])
def test_detection_is_measured_in_the_flips_of_the_config(value, n_flips, monkeypatch):
    engine = engine_named("torchvision")
    cfg = smoke_config(engine, "fpn", "TEST.FLIPS", value)
    samples, seen = positives(3), []
    real = flips.flipped
    monkeypatch.setattr(flips, "flipped", lambda *words: seen.append(words[1:]) or real(*words))
    speed._detector(engine, cfg, samples, speed.EXACT, at_once=2)()
    assert len(seen) == n_flips * len(samples)
