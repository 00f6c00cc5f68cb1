"""StageConfigs files: two stages, shared keys, overrides for both or for one."""

import pytest

from simfrcnn import config
from simfrcnn.config.stages import names_stages, read_stages
from simfrcnn.errors import ConfigError

STAGE = """
SEED: 0
MODEL: {DEVICE: cpu, RESNETS: {NORM: GN}, ROI_HEADS: {NUM_CLASSES: 1}}
DATALOADER: {FILTER_EMPTY_ANNOTATIONS: False, ASPECT_RATIO_GROUPING: False}
OUTPUT_DIR: elsewhere
"""


def tree():
    cfg = config.portable_defaults()
    config.add_simfrcnn_config(cfg)
    return cfg


@pytest.fixture
def write(tmp_path):
    (tmp_path / "one.yaml").write_text(STAGE)
    (tmp_path / "two.yaml").write_text(STAGE + "SOLVER: {MAX_ITER: 70}\n")

    def write(text="", stages="STAGE1: one.yaml\nSTAGE2: two.yaml\n"):
        path = tmp_path / "job.yaml"
        path.write_text(f"{stages}OUTPUT_DIR: out/job\n{text}")
        return path

    return write


def both(job):
    return [job.config_of(stage, tree()) for stage in ("STAGE1", "STAGE2")]


def test_shared_keys_reach_both_stages_and_each_has_its_folder(write):
    first, second = both(read_stages(write("PSEUDO: {SCORE_THRESHOLD: 0.6}\n")))
    assert (first.PSEUDO.SCORE_THRESHOLD, second.PSEUDO.SCORE_THRESHOLD) == (0.6, 0.6)
    assert (first.OUTPUT_DIR, second.OUTPUT_DIR) == ("out/job/stage1", "out/job/stage2")
    assert (first.SOLVER.MAX_ITER, second.SOLVER.MAX_ITER) == (40000, 70)


def test_overrides_go_over_the_file_for_both_or_for_one(write):
    words = ["SEED", "4", "STAGE2.SOLVER.MAX_ITER", "5", "OUTPUT_DIR", "there", "SEED", "6"]
    job = read_stages(write("SEED: 2\n"), words)
    first, second = both(job)
    assert (first.SEED, second.SEED) == (6, 6)
    assert (first.SOLVER.MAX_ITER, second.SOLVER.MAX_ITER) == (40000, 5)
    assert str(job.folder) == "there"
    assert second.OUTPUT_DIR == "there/stage2"


def test_a_job_may_have_a_base_and_paths_are_relative_to_their_file(write, tmp_path):
    write("SEED: 2\n")
    (tmp_path / "deeper").mkdir()
    path = tmp_path / "deeper" / "job.yaml"
    path.write_text("_BASE_: ../job.yaml\nSEED: 3\n")
    assert names_stages(path)
    assert [cfg.SEED for cfg in both(read_stages(path))] == [3, 3]
    assert not names_stages(tmp_path / "one.yaml")


def test_a_missing_stage_is_told(write):
    with pytest.raises(ConfigError, match=r"job\.yaml has no STAGE2"):
        read_stages(write(stages="STAGE1: one.yaml\n"))
    with pytest.raises(ConfigError, match=r"has no STAGE1"):
        read_stages(write(stages="STAGE1: {SEED: 3}\nSTAGE2: two.yaml\n"))


def test_a_stage_without_its_file_is_told(write):
    job = read_stages(write(stages="STAGE1: absent.yaml\nSTAGE2: two.yaml\n"))
    with pytest.raises(ConfigError, match=r"absent\.yaml does not exist"):
        both(job)


def test_an_unknown_key_names_the_job_file(write):
    job = read_stages(write("PSEUDO: {SCORE_TRESHOLD: 0.6}\n"))
    with pytest.raises(ConfigError, match=r"job\.yaml\. Did you mean PSEUDO\.SCORE_THRESHOLD"):
        both(job)


def test_a_folder_is_needed_and_overrides_are_pairs(tmp_path, write):
    path = tmp_path / "bare.yaml"
    path.write_text("STAGE1: one.yaml\nSTAGE2: two.yaml\n")
    with pytest.raises(ConfigError, match="no OUTPUT_DIR"):
        read_stages(path)
    with pytest.raises(ConfigError, match="KEY VALUE pairs"):
        read_stages(write(), ["SEED"])
    with pytest.raises(ConfigError, match="--workers stands behind KEY VALUE words"):
        read_stages(write(), ["SEED", "1", "--workers", "2"])


@pytest.mark.parametrize("key", ["STAGE1", "STAGE2.OUTPUT_DIR"])
def test_what_a_job_would_not_heed_is_refused(write, key):
    with pytest.raises(ConfigError, match=f"{key} cannot be given on the command line"):
        read_stages(write(), [key, "other"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("SCORE_THRESHOLD", "0"), ("SCORE_THRESHOLD", "1.2"), ("NMS_THRESHOLD", "-0.1")],
)
def test_thresholds_out_of_range_are_refused_by_key(write, key, value):
    with pytest.raises(ConfigError, match=rf"PSEUDO\.{key}"):
        both(read_stages(write(), [f"PSEUDO.{key}", value]))


def test_keys_that_differ_from_the_defaults(write):
    first, _ = both(read_stages(write()))
    keys = config.set_keys(first, tree())
    assert keys["MODEL.DEVICE"] == "cpu"
    assert "SOLVER.MAX_ITER" not in keys
