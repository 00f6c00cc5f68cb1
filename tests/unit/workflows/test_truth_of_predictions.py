"""Truth that comes after a prediction: by which clues do the two meet, and what is refused?"""

import json

import pytest

import simfrcnn
from simfrcnn.artifacts import read_detections
from simfrcnn.cli.main import main
from simfrcnn.data.coco import read_coco
from simfrcnn.data.pseudonyms import Pseudonyms
from simfrcnn.errors import AnnotationError, ArtifactError
from simfrcnn.workflows.predict import PredictionOptions, predict
from support.studies import write_study

pytestmark = [pytest.mark.torchvision, pytest.mark.usefixtures("quick_charts")]

OPTIONS = PredictionOptions(workers=0, pictures="none")
BOX = [20.0, 30.0, 24.0, 24.0]


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    for number in (1, 2, 3, 4):
        write_study(folder, number, n_views=2)
    return folder


@pytest.fixture(scope="module")
def run(detector, studies, tmp_path_factory):
    """A run under the names as they are."""
    out = tmp_path_factory.mktemp("run") / "out"
    predict(detector, studies, out, OPTIONS)
    return out


def truth_of(out, path, *, change=lambda image: None):
    """Write images.json with a box in the first view of studies 1 and 2; the rest is normal."""
    content = json.loads((out / "images.json").read_text())
    for image in content["images"]:
        image["supervision"] = "normal"
    exams = sorted({image["exam_id"] for image in content["images"]})[:2]
    for number, exam in enumerate(exams, start=1):
        image = next(one for one in content["images"] if one["exam_id"] == exam)
        image["supervision"] = "boxes"
        box = {"bbox": BOX, "area": BOX[2] * BOX[3], "category_id": 1, "iscrowd": 0}
        content["annotations"].append({"id": number, "image_id": image["id"], **box})
    before = {image["id"]: dict(image) for image in content["images"]}
    for number, image in before.items():
        change(image)
        for annotation in content["annotations"]:
            if annotation["image_id"] == number:
                annotation["image_id"] = image["id"]
    content["images"] = list(before.values())
    path.write_text(json.dumps(content))
    return path


def joined(out, truth):
    annotated = read_coco(truth, check_files=False)
    found = read_detections(out / "detections.json", records=annotated.records)
    return {record.file_name: found.images[record.image_id] for record in annotated.records}, found


def renumbered(image, numbers):
    image["id"] = numbers.setdefault(image["id"], len(numbers) + 1)


def test_evaluate_takes_the_list_of_images_with_boxes_and_numbers_of_its_own(run, tmp_path, capsys):
    numbers = {}
    truth = truth_of(run, tmp_path / "truth.json", change=lambda i: renumbered(i, numbers))
    words = ["evaluate", "--annotations", str(truth), "--detections", str(run / "detections.json")]
    words += ["--replicates", "50", "--no-images", "--output", str(tmp_path / "report")]
    assert main(words) == 0
    assert "2 positive, 2 normal" in capsys.readouterr().out


def test_a_truth_of_its_own_numbers_is_met_by_file_name(run, tmp_path):
    same, _ = joined(run, truth_of(run, tmp_path / "same.json"))
    numbers = {}
    truth = truth_of(run, tmp_path / "own.json", change=lambda image: renumbered(image, numbers))
    own, found = joined(run, truth)
    assert set(found.images) == set(range(1, 9))
    assert set(own) == set(same)
    for name, image in own.items():
        assert image.boxes.tolist() == same[name].boxes.tolist()
        assert image.image_id == found.images[image.image_id].image_id
        assert len(image.scores) > 0


def test_pseudonyms_are_met_by_number_alone(detector, studies, tmp_path):
    names = Pseudonyms(b"k" * 32)
    predict(detector, studies, tmp_path / "out", OPTIONS, pseudonyms=names)

    def with_suffix(image):
        image["file_name"] += ".png"

    truth = truth_of(tmp_path / "out", tmp_path / "truth.json", change=with_suffix)
    assert len(joined(tmp_path / "out", truth)[0]) == 8
    numbers = {}

    def unknown(image):
        renumbered(image, numbers)
        image["file_name"] = f"study{image['id']}.dcm"

    truth = truth_of(tmp_path / "out", tmp_path / "foreign.json", change=unknown)
    with pytest.raises(ArtifactError, match=r"images\.json: unknown file_name"):
        joined(tmp_path / "out", truth)


def test_a_truth_in_other_pixels_is_refused(run, tmp_path):
    def halved(image):
        image["height"], image["width"] = 60, 50

    truth = truth_of(run, tmp_path / "small.json", change=halved)
    with pytest.raises(ArtifactError, match=r"has 96 x 72 px, and image \d+ .* 60 x 50 px"):
        joined(run, truth)


def test_number_and_name_that_mean_two_images_are_refused(run, tmp_path):
    content = json.loads((run / "images.json").read_text())
    names = [image["file_name"] for image in content["images"]]
    turned = dict(zip(names, [*names[1:], names[0]], strict=True))
    truth = truth_of(
        run, tmp_path / "t.json", change=lambda i: i.update(file_name=turned[i["file_name"]])
    )
    with pytest.raises(ArtifactError, match="but file_name is 'study"):
        joined(run, truth)


def test_two_images_that_would_be_one_are_refused(run, tmp_path):
    content = json.loads((run / "images.json").read_text())
    content["images"] = [
        {**image, "id": number, "file_name": image["file_name"].rpartition("/")[2]}
        for number, image in enumerate(content["images"][:2], start=1)
    ]
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="would both be image"):
        joined(run, tmp_path / "t.json")


def test_where_no_name_leads_to_a_film_the_error_says_what_to_do(run, tmp_path):
    truth = truth_of(run, tmp_path / "truth.json")
    with pytest.raises(AnnotationError, match=r"8 of 8 .* missing .*; --no-images \(pictures=Fal"):
        simfrcnn.evaluate(truth, run / "detections.json")


def test_a_damaged_list_of_images_is_named(run, tmp_path):
    truth = truth_of(run, tmp_path / "truth.json")
    for name in ("detections.json", "detections.meta.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    joined(tmp_path, truth)  # without the list, numbers count
    (tmp_path / "images.json").write_text('{"images": [{"id": 1}]}')
    with pytest.raises(ArtifactError, match=r"images\.json lacks image"):
        joined(tmp_path, truth)
    content = json.loads((run / "images.json").read_text())
    del content["images"][0]["file_name"]
    (tmp_path / "images.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"images\.json is damaged \(KeyError: 'file_name'\)"):
        joined(tmp_path, truth)
