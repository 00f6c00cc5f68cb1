"""What the lists of a prediction say of a detection and of an image."""

from simfrcnn.exam import Detection, ImageResult
from simfrcnn.workflows.prediction_entries import detection_entry, image_entry

EXAM = {"patient_id": "P", "exam_id": "E"}


def image_with(*detections):
    return ImageResult("a.dcm", 7, 40, 30, detections, ("malignant",)).to_dict()


def test_boxes_and_squares_of_a_result_are_xywh_in_the_list():
    looked = Detection((1, 2, 11, 22), 0.4, "malignant", 0.8, 0.5, square=(-4, 2, 16, 22))
    plain = Detection((1, 2, 11, 22), 0.3, "benign", 0.3)
    first, second = image_with(looked, plain)["detections"]
    numbers = {"malignant": 1, "benign": 2}
    assert detection_entry(7, first, numbers) == {
        "image_id": 7,
        "category_id": 1,
        "bbox": [1, 2, 10, 20],
        "score": 0.4,
        "first_score": 0.8,
        "second_score": 0.5,
        "second_look_bbox": [-4, 2, 20, 20],
    }
    assert detection_entry(7, second, numbers) == {
        "image_id": 7,
        "category_id": 2,
        "bbox": [1, 2, 10, 20],
        "score": 0.3,
        "first_score": 0.3,
    }


def test_an_image_says_where_its_maps_are_if_it_has_any():
    image = image_with()
    assert "class_maps" not in image_entry(image, EXAM)  # also a result of before there were any
    image["class_maps"] = {"malignant": "class_maps/00/7_1.png"}
    entry = image_entry(image, EXAM)
    assert entry["class_maps"] == {"malignant": "class_maps/00/7_1.png"}
    assert (entry["id"], entry["file_name"], entry["patient_id"]) == (7, "a.dcm", "P")
