"""At which score an exam is called positive, and what is refused."""

import pytest

from simfrcnn.decision import decision_of
from simfrcnn.errors import ArtifactError, ConfigError
from simfrcnn.exam import Detection, ImageResult
from simfrcnn.records import Laterality
from simfrcnn.settings import EvaluationSettings
from support.untrained import operating_points

POINTS = operating_points({"case/youden": 0.5, "breast/sensitivity": 0.7, "image/youden": 0.4})


def image(score, side=Laterality.LEFT):
    found = (Detection((0, 0, 1, 1), score, "malignant"), Detection((0, 0, 1, 1), 0.99, "benign"))
    return ImageResult("x", 1, 10, 10, found, ("malignant",), laterality=side)


def decided(asked=None, document=POINTS, settings=None, changed_keys=()):
    return decision_of(
        asked,
        document,
        settings or EvaluationSettings(),
        checkpoint_sha256="abc",
        where="the points of the file",
        changed_keys=changed_keys,
    )


def test_the_default_is_youden_by_case_from_the_threshold_on():
    decision = decided()
    call = decision.call([image(0.2), image(0.5)])
    assert (call.is_positive, call.score, call.score_threshold) == (True, 0.5, 0.5)
    assert (call.level, call.rule, call.chosen_on) == ("case", "youden", "phantom/val")
    assert call.origin == "chosen on phantom/val; the points of the file"
    assert call.to_dict()["call"] == "positive"
    below = decision.call([image(0.2), image(0.4999)])
    assert not below.is_positive
    assert below.to_dict()["call"] == "negative"
    assert decision.call([]) is None


def test_a_mean_is_pooled_as_the_points_were_chosen():
    document = operating_points({"case/youden": 0.5, "breast/youden": 0.5}, pooling="mean")
    views = [image(0.2), image(0.6), image(0.9, Laterality.RIGHT)]
    assert decided(document=document).call(views).score == pytest.approx(1.7 / 3)
    of_breasts = decided("breast/youden", document).call(views)
    assert of_breasts.score == pytest.approx(0.9)  # of .4 on the left and .9 on the right


def test_an_image_is_judged_alone():
    assert decided("image/youden").call([image(0.3), image(0.41)]).is_positive
    assert not decided("image/youden").call([image(0.3), image(0.39)]).is_positive


def test_a_threshold_of_the_users_own():
    call = decided("0.25", None).call([image(0.25)])
    assert (call.is_positive, call.rule, call.origin) == (True, "fixed", "given by the user")
    with pytest.raises(ConfigError, match=r"score threshold in \(0, 1\]"):
        decided(1.5)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"document": None}, "has no operating point"),
        ({"document": {**POINTS, "checkpoint_sha256": "other"}}, "for another checkpoint"),
        ({"settings": EvaluationSettings(target_classes=("mass",))}, "for the classes"),
        ({"changed_keys": ("TEST.FLIPS",)}, r"chosen with other values of TEST.FLIPS, under which"),
        (
            {"document": operating_points({"breast/youden": 0.5})},
            "give breast/youden, or a ",
        ),
    ],
)
def test_no_call_is_made_without_a_point_that_fits_and_asked_for_it_is_refused(changes, why):
    decision = decided(**changes)
    assert why in decision.why_none
    assert decision.call([image(0.9)]) is None
    with pytest.raises(ConfigError, match=why):
        decided("case/youden", **changes)
    assert decided(0.5, **changes).call([image(0.9)]).is_positive  # a threshold of one's own


def test_a_threshold_with_a_decimal_comma_is_refused_with_one_that_is_legal():
    with pytest.raises(ConfigError, match=r"no 0,3; give .*score threshold .*such as 0\.3"):
        decided("0,3")


def test_a_point_that_could_not_be_chosen_says_why():
    with pytest.raises(ConfigError, match=r"no case/specificity \(too few normal cases\)"):
        decided("case/specificity")


def test_damaged_points_are_an_error():
    with pytest.raises(ArtifactError, match="the points of the file"):
        decided(document={**POINTS, "points": [{"level": 3}]})
