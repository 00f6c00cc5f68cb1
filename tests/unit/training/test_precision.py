"""In which precision a training computes: what is asked, what the machine has, what is said."""

import logging

import pytest
import torch

from simfrcnn import config
from simfrcnn.training import precision
from simfrcnn.training.precision import bf16_units, training_precision

logger = logging.getLogger("simfrcnn.test")


def make_config(*, enabled=False, auto=False, device="cpu"):
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.AUTO_ON_CPU = enabled, auto
    cfg.MODEL.DEVICE = device
    return cfg


@pytest.mark.parametrize(
    ("asked", "units", "expected", "level"),
    [
        ({}, ("amx_bf16",), ("float32", "float32"), None),
        ({"enabled": True}, ("amx_bf16",), ("mixed", "bfloat16"), "INFO"),
        ({"enabled": True}, (), ("mixed", "float32"), "WARNING"),
        ({"auto": True}, ("avx512_bf16",), ("auto", "bfloat16"), "INFO"),
        ({"auto": True}, (), ("auto", "float32"), "INFO"),
        ({"enabled": True, "auto": True}, (), ("mixed", "float32"), "WARNING"),
        ({"enabled": True, "device": "cuda:0"}, (), ("mixed", "float16"), "INFO"),
        ({"auto": True, "device": "cuda"}, ("amx_bf16",), ("float32", "float32"), None),
    ],
)
def test_what_is_asked_and_what_the_machine_has_decide(
    monkeypatch, caplog, asked, units, expected, level
):
    monkeypatch.setattr(precision, "bf16_units", lambda: units)
    found = training_precision(make_config(**asked))
    assert (found.asked, found.used) == expected
    assert found.to_dict() == {"asked": found.asked, "used": found.used, "why": found.why}
    with caplog.at_level(logging.DEBUG, logger.name):
        found.log(logger)
    assert [record.levelname for record in caplog.records] == ([level] if level else [])
    if units and found.used == "bfloat16":
        assert units[0] in caplog.text
    if level == "WARNING":
        assert "float32: this CPU has neither avx512_bf16 nor amx_bf16" in caplog.text


@pytest.mark.parametrize(
    ("avx", "amx", "onednn", "expected"),
    [
        (True, True, True, ("avx512_bf16", "amx_bf16")),
        (True, False, True, ("avx512_bf16",)),
        (False, False, True, ()),
        (True, True, False, ()),
    ],
)
def test_the_units_of_a_cpu(monkeypatch, avx, amx, onednn, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    assert bf16_units() == expected


def test_a_torch_that_does_not_know_the_units_finds_none(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert bf16_units() == ()


def test_the_context_changes_the_type_of_products_alone_and_only_where_it_should(monkeypatch):
    monkeypatch.setattr(precision, "bf16_units", lambda: ("amx_bf16",))
    one = torch.ones(2, 2)
    for asked, dtype in (({"auto": True}, torch.bfloat16), ({}, torch.float32)):
        with training_precision(make_config(**asked)).autocast("cpu"):
            assert (one @ one).dtype == dtype
            assert (one + one).dtype == torch.float32
        assert (one @ one).dtype == torch.float32
