"""A model in Python: loading, one picture, a study."""

import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest

import simfrcnn
from simfrcnn import detector as module
from simfrcnn.engines.common import decoding
from simfrcnn.engines.common.checkpoints import read_checkpoint, write_checkpoint
from simfrcnn.engines.common.score_keys import keys_of_detection
from simfrcnn.errors import CheckpointError, ConfigError, DataError
from simfrcnn.images.finding import find_images
from simfrcnn.images.reading import read_image
from support.studies import write_study, write_view
from support.untrained import operating_points, write_untrained

pytestmark = pytest.mark.torchvision


def test_a_checkpoint_alone_is_enough(detector):
    assert detector.classes == detector.target_classes == ("malignant",)
    assert detector.engine.NAME == "torchvision"
    assert detector.decision.point.score_threshold == 0.5


def test_what_is_asked_of_load_must_fit(untrained, tmp_path):
    with pytest.raises(CheckpointError, match="detectron2 cannot run it"):
        simfrcnn.load(untrained, engine="detectron2")
    with pytest.raises(ConfigError, match="give case/youden, breast/sensitivity, or a score"):
        simfrcnn.load(untrained, operating_point="case/sensitivity")
    with pytest.raises(ConfigError, match=r"MODEL\.DEVICE is 'nonsense'"):
        simfrcnn.load(untrained, device="nonsense")
    with pytest.raises(ConfigError, match="unknown config key"):
        simfrcnn.load(untrained, overrides=("NO.SUCH.KEY", "1"))


@pytest.mark.parametrize("are_stated", [True, False], ids=["stated", "as before"])
def test_points_do_not_hold_where_detection_was_changed(are_stated, tmp_path, caplog):
    weights = write_untrained(tmp_path / "model.pth", case__youden=0.5)
    content = read_checkpoint(weights)
    if are_stated:
        keys = keys_of_detection(simfrcnn.load(weights, device="cpu").cfg)
        content["operating_points"]["detected_with"] = keys
        write_checkpoint(weights, content)
    flips = {"TEST.FLIPS": "all"}
    changed = simfrcnn.load(weights, device="cpu", overrides=flips)
    assert changed.decision.point is None
    assert "no call is made: the operating points of the model were chosen with other" in (
        caplog.text
    )
    with pytest.raises(
        ConfigError, match=r"case/youden: the operating .* other values of TEST\.FLIPS"
    ):
        simfrcnn.load(weights, device="cpu", overrides=flips, operating_point="case/youden")
    own = simfrcnn.load(weights, device="cpu", overrides=flips, operating_point=0.3)
    assert own.decision.point.score_threshold == 0.3
    # Neither the precision nor how many boxes are kept changes what is called.
    for fine in (("TEST.DETECTIONS_PER_IMAGE", "3"), ("TEST.AMP.ENABLED", "True")):
        same = simfrcnn.load(weights, device="cpu", overrides=fine)
        assert same.decision.point.score_threshold == 0.5


def test_a_gpu_that_is_not_there_is_a_warning_by_default_and_an_error_if_asked_for(
    untrained, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="finds no GPU"):
        simfrcnn.load(untrained, device="cuda")
    with pytest.raises(ConfigError, match="finds no GPU"):
        simfrcnn.load(untrained, overrides=("MODEL.DEVICE", "cuda"))
    with pytest.raises(ConfigError, match="finds no GPU"):
        simfrcnn.load(untrained, overrides={"MODEL.DEVICE": "cuda"})
    on_gpu = tmp_path / "config.yaml"
    cfg = simfrcnn.load(untrained).cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED = "cuda", True
    on_gpu.write_text(cfg.dump())
    with caplog.at_level(logging.WARNING, "simfrcnn"):
        loaded = simfrcnn.load(untrained, config_file=on_gpu)
    assert loaded.cfg.MODEL.DEVICE == "cpu"
    assert "the CPU is used" in caplog.text


def test_a_file_of_an_earlier_version_takes_what_lies_beside_it(untrained, tmp_path, caplog):
    import torch

    content = torch.load(untrained, weights_only=True)
    config = content["config"]
    old = {key: content[key] for key in ("engine", "architecture", "model", "training")}
    torch.save({**old, "schema": 1}, tmp_path / "model_best.pth")
    with pytest.raises(CheckpointError, match=r"config\.yaml does not exist"):
        simfrcnn.load(tmp_path / "model_best.pth")
    (tmp_path / "config.yaml").write_text(config)
    with caplog.at_level(logging.WARNING, "simfrcnn"):
        loaded = simfrcnn.load(tmp_path / "model_best.pth")
    assert loaded.decision.point is None
    assert "no call is made: the model has no operating point" in caplog.text
    points = {**operating_points({"case/youden": 0.3}), "checkpoint_sha256": loaded.sha256}
    (tmp_path / "operating_points.json").write_text(json.dumps(points))
    decision = simfrcnn.load(tmp_path / "model_best.pth").decision
    assert decision.point.score_threshold == 0.3


def test_a_second_look_of_an_earlier_version_keeps_the_plain_product(tmp_path):
    import torch

    weights = write_untrained(tmp_path / "now.pth", "MODEL.SECOND_LOOK.ENABLED", True)
    content = torch.load(weights, weights_only=True)
    assert "FIRST_EXPONENT: 0.5\n" in content["config"]
    content["config"] = content["config"].replace("    FIRST_EXPONENT: 0.5\n", "")
    torch.save(content, tmp_path / "before.pth")
    pixels = np.random.default_rng(0).integers(0, 255, (90, 70), np.uint8)
    for name, exponent in (("now", 0.5), ("before", 1)):
        found = simfrcnn.load(tmp_path / f"{name}.pth").detect(pixels).detections
        assert found
        for one in found:
            assert one.score == pytest.approx(one.first_score**exponent * one.second_score)


def test_an_array_is_what_its_file_is(detector, tmp_path):
    pixels = (np.indices((90, 70)).sum(0) % 200).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    of_file = detector.detect(tmp_path / "a.png")
    assert of_file.detections
    assert all(0 <= d.box[0] < d.box[2] <= 70 and d.box[3] <= 90 for d in of_file.detections)
    assert of_file.score == max(d.score for d in of_file.detections)
    for same in (pixels, pixels.astype(np.uint16) * 257, pixels / 255, pixels.astype(np.float32)):
        white = 255 if same.dtype == np.float32 else None
        assert detector.detect(same, white=white).detections == of_file.detections
    drawn = of_file.draw(score_threshold=1.0)
    assert (drawn == pixels[..., None]).all()
    assert (of_file.draw(score_threshold=0.0) != drawn).any()


def test_uint16_white_is_that_of_the_fewest_bits(detector):
    pixels = np.full((60, 50), 1023, np.uint16)
    pixels[:, 25:] = 0
    assert (detector.detect(pixels).pixels[:, :25] == 255).all()
    pixels[0, 0] = 1024
    assert detector.detect(pixels).pixels[5, 5] == round(1023 * 255 / 4095)
    assert detector.detect(pixels, white=2046).pixels[5, 5] == 128


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((3, 4, 3), np.uint8), r"shape \(3, 4, 3\)"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        (np.zeros((3, 4), np.int32), "int32"),
        (np.full((3, 4), 1.5), "from 1.5 to 1.5"),
        (np.full((3, 4), -0.5), "from -0.5"),
        (np.full((3, 4), np.nan), "nan"),
    ],
)
def test_arrays_that_are_no_picture(detector, array, problem):
    with pytest.raises(DataError, match=problem):
        detector.detect(array)


def test_a_study_is_one_exam_with_all_that_was_left_out(detector, tmp_path):
    paths = write_study(tmp_path, 1)
    facts = {"StudyInstanceUID": "1.2.3.1", "PatientID": "P1"}
    write_view(tmp_path / "again.dcm", SOPInstanceUID="1.2.3.1.1", **facts)
    write_view(tmp_path / "scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **facts)
    cut = paths[3].read_bytes()
    paths[3].write_bytes(cut[: len(cut) - 2000])
    (exam,) = detector.predict(tmp_path)
    assert (exam.exam_id, exam.patient_id) == ("1.2.3.1", "P1")
    assert [image.file for image in exam.images] == [
        "again.dcm",
        "study1/LCC.dcm",
        "study1/RMLO.dcm",
    ]
    assert {one.file: one.what for one in exam.left_out} == {
        "scout.dcm": "not a screening view",
        "study1/LMLO.dcm": "unreadable",
        "study1/RCC.dcm": "contradicting copy",
    }
    assert exam.score == max(image.score for image in exam.images) == exam.call.score
    assert exam.call.is_positive == (exam.score >= 0.5)
    content = json.loads(json.dumps(exam.to_dict()))
    assert content["schema"] == 3
    assert content["decision"]["score_threshold"] == 0.5
    assert content["provenance"]["note"] == "Research software, not a medical device."
    assert len(content["left_out"]) == 3
    (exam,) = detector.predict(tmp_path, all_views=True)
    assert len(exam.images) == 4


def test_files_of_one_sop_instance_are_copies_only_if_they_show_the_same(detector, tmp_path):
    first = write_study(tmp_path, 1, n_views=1)[0]
    folder = first.parent
    header = pydicom.dcmread(first)
    header.StationName = "ELSEWHERE"
    header.save_as(folder / "same.dcm")
    header.WindowCenter = 900
    header.save_as(folder / "window.dcm")
    header.WindowCenter, header.ImageLaterality = 1200, "L"
    header.save_as(folder / "side.dcm")
    (folder / "z.dcm").write_bytes(first.read_bytes()[:-2000])
    shutil.copy(first, folder / "equal.dcm")
    first.rename(folder / "a.dcm")
    (exam,) = detector.predict(tmp_path)
    assert [image.file for image in exam.images] == ["study1/a.dcm"]
    found = {Path(one.file).stem: (one.what, one.why) for one in exam.left_out}
    copy = "it has the SOP Instance UID of another file of the exam, which was judged"
    other = "same SOP Instance UID as another file of the exam, which was judged, but "
    assert found["equal"] == found["same"] == ("duplicate", copy)
    assert found["window"] == ("contradicting copy", f"{other}other pixels")
    assert found["side"] == ("contradicting copy", f"{other}another side")
    assert found["z"][0] == "unreadable"


def test_an_exam_is_drawn_and_saved_and_its_pictures_are_never_read(detector, tmp_path):
    study, out = tmp_path / "study", tmp_path / "out"
    write_study(study, 1)
    (exam,) = detector.predict(study)
    assert exam.draw().shape == (800, 4 * 600 + 3 * 8, 3)
    path = exam.save(out)
    content = json.loads(path.read_text())
    names = [image["picture"] for image in content["images"]]
    assert sorted(p.name for p in out.glob("*.png")) == sorted([*names, "exam.png"])
    picture = cv2.imread(str(out / names[0]))
    assert (picture == exam.images[0].draw()).all()
    with pytest.raises(DataError, match="holds no image"):
        find_images(out)
    with pytest.raises(DataError, match="drawn by simfrcnn"):
        list(detector.predict(out))


def test_pixels_need_not_be_kept(detector, tmp_path):
    write_study(tmp_path, 1)
    (kept,), (light,) = (list(detector.predict(tmp_path, keep_pixels=k)) for k in (True, False))
    assert kept == light
    assert (kept.images[0].pixels == read_image(kept.images[0].path)).all()
    with pytest.raises(DataError, match="keep_pixels=True"):
        light.draw()


def test_every_file_is_decoded_once(detector, tmp_path, monkeypatch):
    from simfrcnn.dicom import mammogram

    decoded = []
    decode = mammogram.stored_values
    monkeypatch.setattr(
        mammogram,
        "stored_values",
        lambda header, notes: decoded.append(header.path) or decode(header, notes),
    )
    for number in range(2):
        write_study(tmp_path, number)
    for exam in detector.predict(tmp_path):
        exam.draw()
    assert len(decoded) == len(set(decoded)) == 8


def test_a_model_that_fails_on_an_exam_fails_that_exam_alone(detector, tmp_path, monkeypatch):
    for number in range(3):
        write_study(tmp_path, number)
    detect = detector.engine.detect
    calls = []

    def failing(model, samples):
        calls.append(len(samples))
        if len(calls) == 2:
            raise TypeError("an own mistake")
        return detect(model, samples)

    monkeypatch.setattr(detector.engine, "detect", failing)
    exams = list(detector.predict(tmp_path))
    assert [len(exam.images) for exam in exams] == [4, 0, 4]
    assert {one.what for one in exams[1].left_out} == {"failed"}
    why = exams[1].left_out[0].why
    assert why.startswith("the model failed: unexpected TypeError, test_detector.py line ")
    assert why.endswith(": an own mistake")
    assert (exams[1].score, exams[1].call) == (None, None)
    assert exams[1].why_no_call == "no image of the exam was judged"


def test_a_fault_of_the_program_is_not_called_an_unreadable_file(detector, tmp_path, monkeypatch):
    paths = write_study(tmp_path, 1, n_views=3)
    read_pixels = decoding.record_and_greys

    def failing(path, *rest):
        if path == paths[0]:
            raise TypeError(f"{path}: not what was meant")
        return read_pixels(path, *rest)

    def confused(header):
        if header.text("SOPInstanceUID") == "1.2.3.1.2":
            raise KeyError("NoSuchTag")

    monkeypatch.setattr(decoding, "record_and_greys", failing)
    monkeypatch.setattr("simfrcnn.data.exams.not_screening_of", confused)
    (exam,) = detector.predict(tmp_path)
    assert [image.file for image in exam.images] == ["study1/RMLO.dcm"]
    left, right = exam.left_out
    assert (left.file, left.what) == ("study1/LCC.dcm", "failed")
    assert left.why.startswith("unexpected KeyError, test_detector.py line ")
    assert left.why.endswith(": 'NoSuchTag'")
    assert (right.file, right.what) == ("study1/RCC.dcm", "failed")
    assert right.why.endswith(": not what was meant")
    assert str(tmp_path) not in right.why


def test_results_do_not_hang_on_the_batch(detector, tmp_path, monkeypatch):
    write_study(tmp_path, 1)
    (together,) = detector.predict(tmp_path)
    monkeypatch.setattr(module, "IMAGES_PER_BATCH", 1)
    (alone,) = detector.predict(tmp_path)
    for one, other in zip(together.images, alone.images, strict=True):
        assert np.allclose(
            [d.box for d in one.detections], [d.box for d in other.detections], atol=1e-2
        )
        assert np.allclose([d.score for d in one.detections], [d.score for d in other.detections])


@pytest.mark.detectron2
def test_the_other_engine(tmp_path):
    weights = write_untrained(tmp_path / "model.pth", engine="detectron2")
    write_study(tmp_path / "study", 1)
    loaded = simfrcnn.load(weights)
    (exam,) = loaded.predict(tmp_path / "study")
    assert len(exam.images) == 4
    assert loaded.engine.NAME == "detectron2"
    assert exam.provenance["engine"] == "detectron2"
    assert exam.call is None
