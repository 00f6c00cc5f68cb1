"""Which devices a config may ask for."""

import pytest
import torch

from simfrcnn import config
from simfrcnn.engines.common.device import check_device
from simfrcnn.errors import ConfigError


def checked(name):
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    cfg.MODEL.DEVICE = name
    return check_device(cfg)


@pytest.mark.parametrize("name", ["mps", "meta", "xla:0", "cpu:0", "cuda:-1", "cuda:01", "gpu", ""])
def test_other_kinds_of_devices_are_refused(name):
    with pytest.raises(ConfigError, match="legal are cpu, cuda and cuda:N"):
        checked(name)


def test_a_gpu_beyond_the_last_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert checked("cuda") == torch.device("cuda")
    assert checked("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "cuda:256", "cuda:99999999999"):
        with pytest.raises(ConfigError, match=f"{name}, but this machine has 2 GPUs, counted"):
            checked(name)


def test_a_gpu_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"MODEL\.DEVICE cpu"):
        checked("cuda")
    assert checked("cpu") == torch.device("cpu")
