"""The intensity window: which grey becomes which, where it acts, and what it leaves as it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from simfrcnn import config
from simfrcnn.errors import ConfigError
from simfrcnn.images.preprocess import to_input, windowed
from simfrcnn.input_settings import InputSettings, WindowedInputSettings

PLAIN = InputSettings((64, 48), crop_to_breast=False)


def windowed_by(low, high):
    return WindowedInputSettings(**dataclasses.asdict(PLAIN), window=(low, high))


def tree(*overrides):
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    cfg.merge_from_list(list(overrides))
    return cfg


def test_greys_of_the_window_are_spread_and_the_rest_clipped():
    greys = np.array([[0, 49, 50, 100, 150, 250]], dtype=np.uint8)
    assert windowed(greys, windowed_by(50, 150)).tolist() == [[0, 0, 0, 128, 255, 255]]
    assert windowed(greys, PLAIN) is greys


def test_it_changes_greys_alone_and_leaves_the_padding_black():
    pixels = np.full((32, 24), 120, dtype=np.uint8)
    pixels[:, :8] = 20
    tall = np.vstack([pixels, pixels, pixels])
    plain, frame = to_input(tall, PLAIN)
    seen, same = to_input(tall, windowed_by(20, 220))
    assert frame == same
    assert np.array_equal(seen, np.rint((plain.astype(float) - 20).clip(0, 200) * 255 / 200))
    assert not seen[:, 16:].any()  # 96 x 24 at two thirds is 64 x 16


def test_a_config_without_one_has_the_settings_of_before():
    assert type(config.input_settings(tree())) is InputSettings
    found = config.input_settings(tree("INPUT.MAMMO.WINDOW", (30.0, 200.0)))
    assert found.greys == (30.0, 200.0)
    assert found.unwindowed() == InputSettings()


@pytest.mark.parametrize("ends", [(200.0, 100.0), (-1.0, 100.0), (0.0, 256.0), (5.0,)])
def test_a_window_that_is_none_is_refused(ends):
    with pytest.raises(ConfigError, match=r"INPUT\.MAMMO\.WINDOW is .*0 <= low < high <= 255"):
        config.input_settings(tree("INPUT.MAMMO.WINDOW", ends))
