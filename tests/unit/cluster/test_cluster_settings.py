"""What a job asks for: one YAML file, each value checked, each error with the file's name."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from simfrcnn.cluster import extra
from simfrcnn.cluster.settings import ClusterSettings, LauncherOptions, read_cluster
from simfrcnn.errors import ConfigError


def test_a_file_sets_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("partition: gpu\ngpus: 1\nmemory_gb: 48\nextra: {account: breast}\n")
    settings = read_cluster(path)
    assert (settings.partition, settings.gpus, settings.memory_gb) == ("gpu", 1, 48.0)
    assert settings.extra == {"account": "breast"}
    assert settings.cpus == ClusterSettings().cpus
    path.write_text("")
    assert read_cluster(path) == read_cluster(None) == ClusterSettings()


def test_slurm_is_given_texts_as_they_are_written(tmp_path: Path) -> None:
    """To YAML 0123 is the number 83, and ON is true."""
    path = tmp_path / "cluster.yaml"
    path.write_text("partition: 0123\nextra: {account: 0123, qos: ON, exclusive: true}\n")
    settings = read_cluster(path)
    assert settings.partition == "0123"
    assert settings.extra == {"account": "0123", "qos": "ON", "exclusive": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partiton: gpu", "Did you mean partition"),
        ("time_min: 0", "time_min"),
        ("gpus: -1", "gpus"),
        ("cpus: many", "cpus"),
        ("extra: fast", "options of sbatch"),
        ("time_min: 1\ngrace_s: 60", "grace_s is 60"),
        ("- partition", "KEY: VALUE"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_not_legal_is_refused_with_the_file(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as refused:
        read_cluster(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        read_cluster(tmp_path / "none.yaml")


def test_an_unknown_launcher_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"legal is slurm \| local"):
        LauncherOptions(launcher="kubernetes")  # type: ignore[arg-type]


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'simfrcnn\[slurm\]'"):
        extra.require_launcher("local")


def test_a_machine_without_slurm_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    extra.require_launcher("local")
    with pytest.raises(ConfigError, match="sbatch, squeue, scontrol, srun cannot be found"):
        extra.require_launcher("slurm")
