"""A key that stands twice in a YAML file is an error in every file that a user writes."""

import pytest
import yaml

from simfrcnn.cluster.settings import read_cluster
from simfrcnn.config.loading import read_keys
from simfrcnn.data.sources.folder.mapping import read_mapping as read_columns
from simfrcnn.errors import ConfigError
from simfrcnn.ladder.plan import read_ladder
from simfrcnn.service.options import NodeOptions, read_options
from simfrcnn.yaml_text import parsed


def test_texts_stay_as_written_and_anchors_are_followed():
    assert parsed("a: 0123\nb: [no, 1:30]", "x", texts=True) == {"a": "0123", "b": ["no", "1:30"]}
    shared = "base: &b {x: 1, y: 2}\nother: {<<: *b, y: 3}"
    assert parsed(shared, "x") == {"base": {"x": 1, "y": 2}, "other": {"x": 1, "y": 3}}
    within = "b: &b {x: 1}\nc: {<<: &m {<<: *b, x: 3}, w: 1}\nd: *m"
    assert parsed(within, "x") == yaml.safe_load(within)
    assert parsed("", "x") is None


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: 2\na: 1", 3), ("a:\n  b: {c: 1, c: 2}", 2), ("- {a: 1}\n- {a: 1, 'a': 2}", 2)],
)
def test_a_key_twice_names_file_and_line(text, line, texts):
    key = "a.b.c" if "c" in text else "a"
    with pytest.raises(ConfigError, match=rf"^x\.yaml: '{key}' is there twice \(line {line}\)"):
        parsed(text, "x.yaml", texts=texts)


def test_a_dotted_key_beside_a_nested_one_is_there_twice(tmp_path):
    path = tmp_path / "written.yaml"
    path.write_text("SOLVER: {MAX_ITER: 2}\nSOLVER.MAX_ITER: 3")
    with pytest.raises(ConfigError, match=r"yaml: 'SOLVER.MAX_ITER' is there twice \(line 2\)"):
        read_keys(path)
    path.write_text("SOLVER: {MAX_ITER: 2}\nSOLVER.BASE_LR: .1")
    assert [each.key for each in read_keys(path)] == ["SOLVER.MAX_ITER", "SOLVER.BASE_LR"]


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_keys, "MODEL: {DEVICE: cpu}\nSOLVER: {MAX_ITER: 2}\nMODEL: {MASK_ON: True}"),
        (read_ladder, "SEEDS: [0]\nCONFIG: a.yaml\nSEEDS: [1]"),
        (read_cluster, "partition: gpu\nhours: 2\npartition: cpu"),
        (read_columns, "columns: {image: a}\nvalues: {}\ncolumns: {image: b}"),
        (lambda path: read_options(NodeOptions, {}, path), "port: 1\naet: A\nport: 2"),
    ],
    ids=["config", "ladder", "cluster", "columns", "service"],
)
def test_every_file_that_a_user_writes_is_read_so(tmp_path, read, text):
    path = tmp_path / "written.yaml"
    path.write_text(text)
    key = text.partition(":")[0]
    with pytest.raises(ConfigError) as error:
        read(path)
    assert f"{path}: '{key}' is there twice (line 3); keep one of them" in str(error.value)
