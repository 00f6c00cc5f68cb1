"""Large blocks of a network on a CPU come from the heap, which keeps what a layer frees."""

import json
import os
import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import json
import torch
from simfrcnn.config import add_simfrcnn_config, portable_defaults
from simfrcnn.engines.common.device import check_device

def is_of_heap():
    address = torch.ones(64 * 2**20, dtype=torch.uint8).data_ptr()
    (heap,) = [line for line in open("/proc/self/maps") if line.endswith("[heap]\\\\n")]
    first, last = (int(end, 16) for end in heap.split()[0].split("-"))
    return first <= address < last

cfg = portable_defaults()
add_simfrcnn_config(cfg)
cfg.MODEL.DEVICE = "cpu"
before = is_of_heap()
check_device(cfg)
print(json.dumps([before, is_of_heap()]))
""".replace("\\\\n", "\\n")

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library, which is left alone"
)


def large_blocks_of_heap(**environment):
    """Whether a block of 64 MiB is the heap's: before, and after a device is checked."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_cpu_keeps_what_layers_free():
    assert large_blocks_of_heap() == [False, True]


@pytest.mark.parametrize(
    "words",
    [
        {"MALLOC_MMAP_THRESHOLD_": "1048576"},
        {"MALLOC_TRIM_THRESHOLD_": "1048576"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1048576"},
    ],
)
def test_what_the_environment_says_of_malloc_stands(words):
    assert large_blocks_of_heap(**words) == [False, False]
