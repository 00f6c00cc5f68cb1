"""The benchmark of patches: what the splits share, and a run that is cut and goes on."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks import mias_patches
from benchmarks.mias_patches import Crops, Training

LABELS = np.array([0, 1] * 6)
PATIENTS = tuple(f"p{number // 2 if number < 4 else number}" for number in range(12))


@pytest.fixture
def crops(monkeypatch):
    """Twelve findings of ten patients, small enough for a training in a second."""
    pixels = np.random.default_rng(0).random((12, 48, 48)).astype(np.float32)
    made = Crops(pixels, LABELS, PATIENTS)
    monkeypatch.setattr(mias_patches, "crops_of", lambda root, kinds: made)
    return made


def test_eight_of_the_twelve_copies_differ():
    copies = list(mias_patches.copies_of(np.random.default_rng(0).random((48, 48))))
    assert len(copies) == 12
    assert len({copy.tobytes() for copy in copies}) == 8
    assert sum(p.numel() for p in mias_patches.network().parameters()) == 72_706


def test_a_split_by_copy_shares_the_findings_and_one_by_patient_shares_no_patient(crops):
    of_copy = np.repeat(np.arange(12), 12)
    patients = np.array(PATIENTS)[of_copy]
    for arm in ("copy", "patient"):
        splits = mias_patches.splits_of(arm, LABELS[of_copy], patients, 0)
        assert sorted(np.concatenate([test for _, test in splits])) == list(range(144))
        for train, test in splits:
            is_shared = np.isin(patients[test], patients[train])
            assert is_shared.all() if arm == "copy" else not is_shared.any()


def test_a_training_gives_chances_that_are_the_same_for_a_seed():
    images = torch.rand(6, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    labels, train, test = torch.tensor([0, 1] * 3), np.arange(4), np.array([4, 5])
    found = [
        mias_patches.trained_scores(images, labels, train, test, n_epochs=1, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).all()
    assert all(0 < chance < 1 for chance in found[0])


def test_a_run_that_was_cut_goes_on_and_ends_as_one_that_was_not(
    crops, tmp_path, monkeypatch, capsys
):
    def scores(images, labels, train, test, *, n_epochs, seed):
        return np.random.default_rng(seed).random(len(test))

    monkeypatch.setattr(mias_patches, "trained_scores", scores)

    def run(path, *more):
        mias_patches.main(["--root", ".", "--output", str(path), "--epochs", "1", *more])
        return capsys.readouterr()

    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    table = run(whole, "--seeds", "0").out
    lines = whole.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 1 + 4
    cut.write_text("".join(lines[:2]) + lines[2][:50])
    told = run(cut, "--seeds", "0", "--arms", "patient,copy,permuted")
    assert told.out == table
    assert "2 of 6 trainings are done" in told.err
    assert "[4/4] patient seed 0 fold 4" in told.err
    assert run(cut, "--seeds", "0").err.count("\n") == 1  # nothing is left to do
    with pytest.raises(SystemExit):
        run(cut, "--arms", "copy,permutd")
    assert "--arms: permutd; legal are copy, permuted, patient" in capsys.readouterr().err

    def known(path):
        same = [dataclasses.replace(one, cpu_s=0) for one in mias_patches.read_trainings(path)]
        return sorted(same, key=lambda one: one.key)

    assert known(cut) == known(whole)
    permuted = next(one for one in known(cut) if one.arm == "permuted")
    of_finding = dict(zip(permuted.findings, permuted.labels, strict=True))
    assert [of_finding[f] for f in sorted(of_finding)] != LABELS[sorted(of_finding)].tolist()


def test_figures_put_the_test_copies_of_all_folds_together_once(tmp_path):
    first = Training("CALC", 1, "patient", 0, 1, 0.0, (0, 0, 1), (1, 1, 0), (0.9, 0.2, 0.3), 1.0)
    second = Training("CALC", 1, "patient", 0, 2, 1.0, (2,), (0,), (0.6,), 1.0)
    assert mias_patches.figures([first, second]) == {
        "trainings": 2,
        "test copies": 4,
        "of a finding that trained": 0.25,
        "accuracy": 0.5,
        "AUC by copy": 0.5,
        "AUC by finding": 0.5,
        "findings": 3,
    }
    file = tmp_path / "scores.jsonl"
    for training in (first, second, first):  # two processes did the same
        mias_patches.append(file, training)
    assert mias_patches.figures(mias_patches.read_trainings(file))["test copies"] == 4
    table = mias_patches.table([first, second])
    assert table[0].startswith("| arm | seed | trainings |")
    assert table[2] == "| patient | 0 | 2 | 4 | 0.250 | 0.500 | 0.500 | 0.500 | 3 |"
