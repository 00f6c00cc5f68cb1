"""The files of a ladder: both intervals, verdicts, and scores from which others can recompute."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
import runpy
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from simfrcnn.artifacts import DetectionFile
from simfrcnn.evaluation.comparison import compare, mean_over_seeds, resample
from simfrcnn.evaluation.reporting import overlays
from simfrcnn.evaluation.reporting.documents import Section, markdown_page
from simfrcnn.evaluation.reporting.wording import p_of
from simfrcnn.evaluation.results import Figure
from simfrcnn.evaluation.trainings import over_trainings
from simfrcnn.ladder import figures, report
from simfrcnn.ladder.plan import Ladder, Rung
from simfrcnn.ladder.results import LadderResult, Pair, RungResult
from simfrcnn.ladder.tables import OF_AN_OLDER_VERSION, completed, ladder_tables
from simfrcnn.settings import EvaluationSettings
from support.commands import ROOT
from support.evaluation_examples import random_set

SETTINGS = EvaluationSettings(bootstrap_replicates=200)
RESULTS = ROOT / "docs" / "results"
NAMES = {"faster": (0, 1, 2), "sim": (0, 1, 2), "weak": (1,), "later": ()}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("draw_ladder_rocs", "draw_ladder_frocs", "draw_ladder_differences"):
        monkeypatch.setattr(report, name, lambda *_: {"png": b"picture", "svg": b"<svg/>"})


@pytest.fixture(scope="module")
def result() -> LadderResult:
    """Rungs of three seeds, of one, and of none, on patients with one case or two."""
    records, detections = random_set(5, n_patients=60)
    models = {
        (name, seed): resample(records, _scored(detections, records, name, seed), SETTINGS)
        for name, seeds in NAMES.items()
        for seed in seeds
    }
    rungs = []
    for name, seeds in NAMES.items():
        own = {seed: models[name, seed] for seed in seeds}
        missing = tuple(seed for seed in range(3) if seed not in seeds)
        figures = mean_over_seeds(list(own.values())) if own else {}
        rungs.append(RungResult(Rung(name, Path("c.yaml"), {}, None), missing, own, figures, {}))
    pairs = []
    for first in ("sim", "weak", "later"):
        seeds = NAMES[first]
        both = [[models[name, seed] for seed in seeds] for name in (first, "faster")]
        compared = compare(*both) if seeds else None
        pairs.append(Pair(first, "faster", ("planned",), seeds, compared))
    rung_list = tuple(each.rung for each in rungs)
    ladder = Ladder(Path("l.yaml"), Path("c.yaml"), (0, 1, 2), "faster", rung_list, (), 0.9)
    return LadderResult(
        ladder, "torchvision", SETTINGS, "t", "0" * 64, tuple(rungs), tuple(pairs), (), {}, ()
    )


def _scored(detections: DetectionFile, records, name: str, seed: int) -> DetectionFile:
    """Detections whose scores know the truth a little, each rung and seed in its own way."""
    random = np.random.default_rng([len(name), seed])
    skill = {"faster": 0.1, "sim": 0.3, "weak": 0.2}[name] * (1 + 0.3 * seed)
    images = {}
    for record in records:
        each = detections.images[record.image_id]
        scores = random.random(len(each.scores)) * 0.7 + skill * bool(record.findings)
        images[record.image_id] = dataclasses.replace(each, scores=scores.clip(0, 1))
    return dataclasses.replace(detections, images=images)


@pytest.fixture(scope="module")
def written(result, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ladder")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_ladder_rocs", "draw_ladder_frocs", "draw_ladder_differences"):
            patch.setattr(report, name, lambda *_: {"png": b"picture", "svg": b"<svg/>"})
        report.write_ladder(folder, result)
    return folder


@pytest.fixture(scope="module")
def document(written: Path):
    return json.loads((written / "ladder.json").read_text("utf-8"))


def test_every_auc_is_that_of_the_published_scores(written, document):
    with (written / "case_scores.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["rung", "seed", "patient", "case", "truth", "score"]
    for name, seeds in NAMES.items():
        for seed in seeds:
            own = [r for r in rows if (r["rung"], r["seed"]) == (name, str(seed))]
            assert len({(r["patient"], r["case"]) for r in own}) == len(own) > 40
            known = [r for r in own if r["truth"] != "unknown"]
            is_positive = [r["truth"] == "positive" for r in known]
            auc = roc_auc_score(is_positive, [float(r["score"]) for r in known])
            ours = document["rungs"][name]["by_seed"][str(seed)]["case/auc"]
            assert ours == pytest.approx(auc, abs=1e-12)


def test_the_script_of_the_page_finds_the_same_intervals(written, document, monkeypatch, capsys):
    page = (ROOT / "docs" / "ladder.md").read_text("utf-8")
    (script,) = re.findall(r"```python\n(import csv.*?)```", page, re.DOTALL)
    monkeypatch.chdir(written)
    found = {}
    exec(script.replace("2000", "100"), found)
    assert "over trainings and patients" in capsys.readouterr().out
    (pair,) = (p for p in document["pairs"] if (p["first"], p["second"]) == ("sim", "faster"))
    ours = pair["differences"]["case/auc"]
    assert list(found["by_seed"]) == pytest.approx(ours["by_seed"], abs=1e-12)
    width = ours["high"] - ours["low"]
    assert found["low"] == pytest.approx(ours["low"], abs=0.2 * width)  # other resamplings
    assert found["high"] == pytest.approx(ours["high"], abs=0.2 * width)
    own = Figure(found["mean"], found["low"], found["high"], "bootstrap")
    both = over_trainings(list(found["by_seed"]), own, -1, 1)  # of the script's own resamplings
    assert found["lowest"] == pytest.approx(both.low, rel=1e-3)
    assert found["highest"] == pytest.approx(both.high, rel=1e-3)


def test_the_interval_of_each_metric_follows_from_the_numbers_in_the_file(document):
    checked = 0
    for pair in document["pairs"]:
        for figure in (pair["differences"] or {}).values():
            by_seed = figure["by_seed"]
            if len(by_seed) == 1:
                assert figure["over_trainings"]["low"] is None
                assert figure["verdict"]["word"] == "one training"
                continue
            of_seeds = stats.sem(by_seed)
            error = max(figure["value"] - figure["low"], 0) / 1.959964  # of the lower side
            total = math.hypot(of_seeds, error)
            half = stats.t.ppf(0.975, 2) * of_seeds
            if of_seeds:
                half = max(half, stats.t.ppf(0.975, 2 * (total / of_seeds) ** 4) * total)
            else:
                half = 1.959964 * total
            assert figure["over_trainings"]["low"] == pytest.approx(
                max(figure["value"] - half, -1), abs=1e-6
            )
            checked += 1
    assert checked == 7


def test_holm_counts_all_that_was_planned(document):
    """Also what is missing, or has one training: three were planned, one has a p-value."""
    planned = [pair for pair in document["pairs"] if "planned" in pair["roles"]]
    (auc, *others) = [(pair["differences"] or {}).get("case/auc") for pair in planned]
    assert 0 < auc["p_value"] < 0.05  # as its interval excludes 0
    assert auc["p_holm"] == pytest.approx(min(1, len(planned) * auc["p_value"]))
    assert [each["p_value"] for each in others if each] == [None]
    assert "p_value" not in document["pairs"][0]["differences"]["finding/ap50"]


def test_the_rules_say_once_what_is_adjusted(written, document):
    """The page had a rule of Holm's adjustment and another that nothing is corrected."""
    published = json.loads((RESULTS / "phantom_ladder.json").read_text("utf-8"))["rules"]
    for rules in (document["rules"], published):
        about = [rule for rule in rules if re.search(r"correct|number of comparisons", rule)]
        assert about == [rules[-1]]
        assert rules[-1].startswith("Nothing but 'p, Holm' is adjusted for the number of")
        assert any(rule.startswith("p, Holm: of the planned comparisons") for rule in rules)
    assert "Nothing but 'p, Holm' is adjusted" in (written / "ladder.md").read_text("utf-8")


def test_the_page_gives_both_intervals_and_a_verdict(written, document):
    page = (written / "ladder.md").read_text("utf-8")
    (auc, weak) = (document["pairs"][i]["differences"]["case/auc"] for i in (0, 1))
    assert auc["verdict"]["word"] == "equivalent"
    assert "by less than 0.9" in auc["verdict"]["reason"]
    both = auc["over_trainings"]
    seeds = ", ".join(f"{each:+.3f}" for each in auc["by_seed"])
    assert (
        f"| sim - faster | planned | 3 | {auc['value']:+.3f} | {auc['low']:+.3f} to "
        f"{auc['high']:+.3f} | {both['low']:+.3f} to {both['high']:+.3f} | {seeds} | "
        f"{p_of(auc['p_holm'])} | equivalent: {auc['verdict']['reason']} |"
    ) in page
    assert (
        f"| weak - faster | planned | 1 | {weak['value']:+.3f} | {weak['low']:+.3f} to "
        f"{weak['high']:+.3f} | - | {weak['value']:+.3f} | "
        "- | one training: no interval over trainings |"
    ) in page
    assert "| later - faster | planned | 0 | missing | - | - | - | - | - |" in page
    assert "| later | 0/3 | missing | - | - | - |" in page
    rung = document["rungs"]["sim"]["figures"]["case/auc"]
    assert f"{rung['over_trainings']['low']:.3f} to {rung['over_trainings']['high']:.3f}" in page
    # Equivalence is for the primary metric: what an AP50 may differ by is another matter.
    words = {key: f["verdict"]["word"] for key, f in document["pairs"][0]["differences"].items()}
    assert words.pop("case/auc") == "equivalent"
    assert set(words.values()) <= {"result", "not a result"}


def test_the_html_page_has_the_same_tables_and_shows_every_picture(written):
    html = (written / "ladder.html").read_text("utf-8")
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    assert ["<strong>faster</strong>"] in [row[:1] for row in cells]
    shown = [[unescape(re.sub(r"<.*?>", "", cell)) for cell in row] for row in cells]
    lines = (written / "ladder.md").read_text("utf-8").splitlines()
    expected = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert len(expected) > 40
    for row in expected:
        if set(row) != {"---"}:
            # An interval stands below its value, without brackets; * is bold.
            words = [unescape(cell).strip("*") for cell in row]
            assert [re.sub(r"^([\d.+-]+) \((.*)\)$", r"\1 \2", word) for word in words] in shown
    assert html.count("data:image/svg+xml;base64,PHN2Zy8+") == 3


def test_the_terminal_quotes_the_wider_interval_and_the_verdict(result, document):
    lines = report.summary_lines(result)
    auc = document["pairs"][0]["differences"]["case/auc"]
    low, high = (auc["over_trainings"][end] for end in ("low", "high"))
    (line,) = (line for line in lines if line.startswith("sim - faster"))
    assert f"{auc['value']:+.3f} ({low:+.3f} to {high:+.3f}); equivalent: " in line
    (line,) = (line for line in lines if line.startswith("weak - faster"))
    assert line.endswith("; one training: no interval over trainings")


def test_without_a_margin_nothing_is_equivalent(document):
    own = {**document, "ladder": {**document["ladder"], "equivalence_margin": None}}
    verdict = completed(own)["pairs"][0]["differences"]["case/auc"]["verdict"]
    assert verdict["word"] in ("result", "not a result")


def test_a_file_of_an_older_version_gets_the_same_tables(document):
    old = json.loads(json.dumps(document))
    figures = [f for rung in old["rungs"].values() for f in rung["figures"].values()]
    figures += [f for pair in old["pairs"] for f in (pair["differences"] or {}).values()]
    for figure in figures:
        del figure["over_trainings"]
        figure.pop("verdict", None)
    assert completed(old) == document
    assert ladder_tables(completed(old)) == ladder_tables(document)


def _with_few_patients(result: LadderResult) -> LadderResult:
    """The same figures, of 19 patients with a positive and 41 with a normal unit."""
    few = {"positive": 19, "normal": 41}
    rungs = tuple(
        dataclasses.replace(
            rung,
            models={
                seed: dataclasses.replace(model, n_patients=dict.fromkeys(model.n_patients, few))
                for seed, model in rung.models.items()
            },
        )
        for rung in result.rungs
    )
    models = {rung.rung.name: rung.models for rung in rungs}
    pairs = tuple(
        dataclasses.replace(
            pair,
            comparison=pair.comparison
            and compare(
                *([models[name][seed] for seed in pair.seeds] for name in (pair.first, pair.second))
            ),
        )
        for pair in result.pairs
    )
    return dataclasses.replace(result, rungs=rungs, pairs=pairs)


def test_every_difference_says_on_how_many_patients_it_rests(result, document) -> None:
    model = result.rungs[0].models[0]
    for pair in document["pairs"]:
        for key, content in (pair["differences"] or {}).items():
            assert content["n_patients"] == model.n_patients[key]
    assert model.n_patients["case/auc"] == model.cases.n_patients


def test_on_too_few_patients_there_is_no_p_and_no_result(result, document, tmp_path: Path) -> None:
    """By the bound of a comparison of models, whatever the seeds say."""
    assert document["pairs"][0]["differences"]["case/auc"]["p_value"] < 0.05
    few = _with_few_patients(result)
    report.write_ladder(tmp_path, few)
    document = json.loads((tmp_path / "ladder.json").read_text("utf-8"))
    auc = document["pairs"][0]["differences"]["case/auc"]
    assert (auc["p_value"], auc["p_holm"]) == (None, None)
    reason = "no test with fewer than 20 patients with a positive and 20 with a normal unit"
    assert auc["verdict"]["word"] == "not a result"
    assert auc["verdict"]["reason"].startswith(reason)
    for pair in document["pairs"]:
        words = [f["verdict"]["word"] for f in (pair["differences"] or {}).values()]
        assert set(words) <= {"not a result", "one training", "undefined"}
    page = (tmp_path / "ladder.md").read_text("utf-8")
    assert f"| - | not a result: {reason}" in page
    (line,) = (line for line in report.summary_lines(few) if line.startswith("sim - faster"))
    assert f"; not a result: {reason}" in line


def test_the_negative_control_is_judged_by_the_same_bound(result) -> None:
    for judged, words in (
        (result, ": .5 is "),
        (_with_few_patients(result), ": no test with fewer than 20"),
    ):
        control = dataclasses.replace(
            judged.rungs[0],
            rung=dataclasses.replace(judged.rungs[0].rung, permute_labels=True),
        )
        lines = report._control_text(dataclasses.replace(judged, rungs=(control,)))
        assert words in lines[-1]


def test_a_file_that_does_not_say_how_many_patients_claims_nothing(
    document, tmp_path, monkeypatch, capsys
) -> None:
    old = json.loads(json.dumps(document))
    for pair in old["pairs"]:
        for figure in (pair["differences"] or {}).values():
            del figure["n_patients"]
    full = completed(old)
    auc = full["pairs"][0]["differences"]["case/auc"]
    assert auc["p_value"] is None
    assert auc["verdict"]["reason"] == "it is not stated on how many patients it rests"
    assert (
        auc["over_trainings"] == document["pairs"][0]["differences"]["case/auc"]["over_trainings"]
    )
    assert full["notes"][-1] == OF_AN_OLDER_VERSION
    assert OF_AN_OLDER_VERSION not in document["notes"]
    assert completed(full) == full  # and the note stands there once
    path = tmp_path / "ladder.json"
    for content, is_old in ((old, True), (document, False)):
        path.write_text(json.dumps(content), "utf-8")
        monkeypatch.setattr("sys.argv", ["ladder_tables.py", str(path)])
        runpy.run_path(str(ROOT / "tools" / "ladder_tables.py"), run_name="__main__")
        assert ("simfrcnn ladder --report-only" in capsys.readouterr().out) == is_old


def test_the_published_page_shows_the_published_numbers():
    """Every row of its tables is that of tools/ladder_tables.py on the file beside it."""
    published = json.loads((RESULTS / "phantom_ladder.json").read_text("utf-8"))
    assert completed(published) == published
    page = (RESULTS / "phantom_ladder.md").read_text("utf-8")
    for table in ladder_tables(published).values():
        rows = markdown_page("-", [Section("-", [table])]).splitlines()
        rows = [row for row in rows if row.startswith("| ")]
        assert len(rows) > 15
        assert "\n".join(rows) in page


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures stay drawings, so that a test can read the lines on them."""
    monkeypatch.setattr(overlays, "rendered", lambda drawing: drawing)


def _curves(drawing) -> dict[str, list]:
    """The lines of each rung, all in the colour of the one that the legend shows for it."""
    curves, colour = {}, None
    for line in drawing.axes[0].lines:
        if not len(line.get_xdata()):
            own, colour = curves.setdefault(line.get_label(), []), line.get_color()
        elif curves:
            assert line.get_color() == colour
            own.append(line.get_data())
    assert [text.get_text() for text in drawing.legends[0].get_texts()] == list(curves)
    return curves


def _wider(figure: dict) -> str:
    ends = (figure, figure["over_trainings"])
    low, high = max(
        ((end["low"], end["high"]) for end in ends if end["low"] is not None),
        key=lambda limits: limits[1] - limits[0],
    )
    return f"{figure['value']:.3f} ({low:.3f} to {high:.3f})"


def test_the_roc_curves_of_the_picture_are_those_of_the_published_scores(
    result, written, document, drawings
) -> None:
    curves = _curves(figures.draw_ladder_rocs(result))
    with (written / "case_scores.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["truth"] != "unknown"]
    for (name, seeds), (label, lines) in zip(NAMES.items(), curves.items(), strict=True):
        plural = "" if len(seeds) == 1 else "s"
        auc = _wider(document["rungs"][name]["figures"]["case/auc"]) if seeds else "missing"
        assert label == f"{name} ({len(seeds)} seed{plural}): {auc}"
        for seed, line in zip(seeds, lines, strict=True):
            own = [row for row in rows if (row["rung"], row["seed"]) == (name, str(seed))]
            truth = [row["truth"] == "positive" for row in own]
            scores = [float(row["score"]) for row in own]
            x, y, _ = roc_curve(truth, scores, drop_intermediate=False)
            np.testing.assert_allclose(line, (x, y), atol=1e-12)


def test_the_froc_curves_of_the_picture_pass_through_the_quoted_sensitivities(
    result, document, drawings
) -> None:
    curves = _curves(figures.draw_ladder_frocs(result))
    assert [label.split(" (")[0] for label in curves] == list(NAMES)
    for (name, seeds), lines in zip(NAMES.items(), curves.values(), strict=True):
        for seed, (x, y) in zip(seeds, lines, strict=True):
            at_1 = document["rungs"][name]["by_seed"][str(seed)]["froc/centre/all/sensitivity_at_1"]
            assert y[np.flatnonzero(np.array(x) <= 1)[-1]] == pytest.approx(at_1)
            assert (x[0], x[-1] >= 10) == (0.05, True)


def test_the_picture_of_differences_has_the_numbers_of_the_file(result, document, drawings) -> None:
    drawing = figures.draw_ladder_differences(result)
    keys = ("case/auc", "case/specificity_at_sensitivity_0.9")
    labels = [label.get_text() for label in drawing.axes[0].get_yticklabels()]
    assert labels == ["sim - faster", "weak - faster", "later - faster (missing)"]
    for panel, key in zip(drawing.axes, keys, strict=True):
        expected = []
        for row, pair in enumerate(document["pairs"]):
            if pair["differences"] is None:
                continue
            own = pair["differences"][key]
            ends, seeds = [(own["low"], own["high"])], own["by_seed"]
            if len(seeds) > 1:
                ends.append((own["over_trainings"]["low"], own["over_trainings"]["high"]))
            expected += [(end, (row, row)) for end in ends] + [((own["value"],), (row,))]
            seeds = seeds if len(seeds) > 1 else []
            expected.append((tuple(seeds), (row + 0.25,) * len(seeds)))
        drawn = [tuple(map(tuple, line.get_data())) for line in panel.lines]
        assert drawn[0] == ((0, 0), (0, 1))  # no difference
        assert drawn[1:] == expected


def test_a_file_name_that_is_not_utf_8_is_written(tmp_path: Path) -> None:
    name = "M\udce4rz"
    ladder = Ladder(Path(f"{name}.yaml"), Path("c.yaml"), (0,), "sim", (), ())
    result = LadderResult(
        ladder, "torchvision", EvaluationSettings(), name, "0" * 64, (), (), (), {}, ()
    )
    page = report.write_ladder(tmp_path, result)
    for text in (page, tmp_path / "ladder.md"):
        assert "Ladder M\\udce4rz" in text.read_text("utf-8")
    document = json.loads((tmp_path / "ladder.json").read_text("utf-8"))
    assert document["ladder"]["file"] == f"{name}.yaml"
    assert document["test_set"]["name"] == name
