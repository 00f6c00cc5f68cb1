"""Hard-normal replay: scores, ranking, draw, windows, memory of several processes, resuming."""

import math
from pathlib import Path

import pytest
import torch

from simfrcnn.errors import CheckpointError, ConfigError
from simfrcnn.sampling import replay
from simfrcnn.sampling.replay import NormalReplay, firing_scores, rank_hard
from simfrcnn.settings import ReplaySettings
from simfrcnn.structures import ImageTargets
from support.examples import normals, positives, record, sample_of

NAN = math.nan


def alone(part):
    return part


def replay_of(
    n_normals=4, *, fraction=0.5, hard_share=0.25, period=2, items_per_step=1, seed=0, boxed=()
):
    records = [
        record(i, boxes=[(1, 1, 9, 9)] if i in boxed else (), path=Path("/x"))
        for i in range(n_normals)
    ]
    return NormalReplay(
        ReplaySettings(fraction, hard_share, period),
        normals=records,
        classes=("malignant",),
        seed=seed,
        items_per_step=items_per_step,
    )


def see(memory, step, scores, gather=alone):
    """A step whose batch holds one positive and the normal images of the given scores."""
    samples = [positives(1)[0], *(sample_of(record(i, path=Path("/x"))) for i in scores)]
    return memory.after_step(step, samples, torch.tensor([0.99, *scores.values()]), gather)


def test_scores_by_brute_force():
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(40, 4, generator=generator)
    image_index = torch.randint(0, 6, (40,), generator=generator)
    image_index[image_index == 2] = 3  # an image without a region
    expected = [0.0] * 6
    for row, image in zip(logits.tolist(), image_index.tolist(), strict=True):
        total = sum(math.exp(x) for x in row)
        expected[image] = max(expected[image], math.exp(row[1]) / total, math.exp(row[3]) / total)
    got = firing_scores(logits.requires_grad_(), image_index, n_images=6, target_labels=[1, 3])
    assert got.tolist() == pytest.approx(expected)
    assert expected[2] == 0
    assert not got.requires_grad
    half = firing_scores(logits.half(), image_index, n_images=6, target_labels=[1, 3])
    assert half.dtype == torch.float32
    nothing = firing_scores(logits[:0], image_index[:0], n_images=2, target_labels=[1])
    assert nothing.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("scores", "share", "fewest", "expected"),
    [
        ([0.1, 0.9, NAN, 0.5], 0.5, 1, [1, 3]),
        ([0.5, 0.5, 0.7, 0.5], 0.75, 1, [2, 0, 1]),  # ties keep their order
        ([0.1, 0.2, 0.3, 0.4, 0.5], 0.25, 1, [4, 3]),  # rounded up
        ([0.1, NAN, 0.3], 1.0, 3, []),
        ([0.1, 0.2, 0.3], 1.0, 3, [2, 1, 0]),
        ([0.0, NAN], 0.1, 1, [0]),
        # In floating point .55 x 100 is 55.00000000000001: the share is meant, not its last bit.
        ([place / 100 for place in range(100)], 0.55, 100, list(range(99, 44, -1))),
        ([0.2, 0.9, 0.1], 1e-12, 3, [1]),  # of any share at least one image
    ],
)
def test_ranking_by_hand(scores, share, fewest, expected):
    hard = rank_hard(torch.tensor(scores), hard_share=share, fewest_seen=fewest)
    assert hard.tolist() == expected


def test_a_ranking_serves_the_window_after_the_next():
    memory = replay_of(n_normals=2, hard_share=0.5)
    published = {}
    for step in range(8):
        published[step] = memory.hard_in(step // 2).tolist()
        # The model fires on image 0 in the first two windows, on image 1 in the others.
        score = 0.8 if step < 4 else 0.1
        see(memory, step, {0: score, 1: 0.4})
    assert published == {0: [], 1: [], 2: [], 3: [], 4: [0], 5: [0], 6: [0], 7: [0]}
    assert memory.hard_in(4).tolist() == [1]  # what was seen in window 2


def test_the_draw_takes_the_fraction_and_only_hard_images_each_as_often():
    memory = replay_of(n_normals=8, fraction=0.3, hard_share=0.5, period=1000)
    memory._scores = torch.arange(8.0) / 10
    memory._publish(0)
    drawn = [memory.replacement(number) for number in range(1000)]
    taken = [place for place in drawn if place is not None]
    assert set(taken) == {4, 5, 6, 7}
    # Four standard deviations of a binomial.
    assert len(taken) == pytest.approx(300, abs=4 * math.sqrt(1000 * 0.3 * 0.7))
    for place in range(4, 8):
        expected = len(taken) / 4
        assert taken.count(place) == pytest.approx(expected, abs=4 * math.sqrt(expected))
    assert drawn == [memory.replacement(number) for number in range(1000)]
    other = replay_of(n_normals=8, fraction=0.3, hard_share=0.5, period=1000, seed=1)
    other.load_state_dict(memory.state_dict(), source="")
    assert drawn != [other.replacement(number) for number in range(1000)]


def test_draws_are_ordinary_until_enough_has_been_seen(monkeypatch):
    monkeypatch.setattr(replay, "FEWEST_SEEN", 3)
    memory = replay_of(n_normals=5, fraction=0.9, hard_share=1.0, period=1)
    assert see(memory, 0, {0: 0.1, 1: 0.2}) == {"replay/replayed": 0}
    assert memory.hard_in(2).tolist() == []
    figures = see(memory, 1, {2: 0.6})
    assert figures == pytest.approx(
        {"replay/replayed": 0, "replay/hard_score": 0.3, "replay/mean_score": 0.3}
    )
    assert memory.hard_in(3).tolist() == [2, 1, 0]
    few = replay_of(n_normals=2, period=1)
    see(few, 0, {0: 0.5, 1: 0.5})
    assert few.hard_in(2).tolist() == [0]  # all of a set smaller than that


def test_of_a_large_set_100_images_must_have_been_seen():
    memory = replay_of(n_normals=120, hard_share=1.0, period=1)
    see(memory, 0, dict.fromkeys(range(99), 0.5))
    assert len(memory.hard_in(2)) == 0
    see(memory, 1, {99: 0.5})
    assert len(memory.hard_in(3)) == 100


def test_the_log_has_the_share_of_the_window_that_ended_and_what_was_hard():
    memory = replay_of(fraction=0.5, hard_share=0.5, period=4, items_per_step=2)
    scores = {0: 0.1, 1: 0.2, 2: 0.6, 3: 0.9}
    figures = [see(memory, step, scores) for step in range(11)]
    taken = [memory.replacement(number) is not None for number in range(16, 24)]
    assert 0 < sum(taken) < 8
    figures.append(see(memory, 11, scores))
    hard = {"replay/hard_score": 0.75, "replay/mean_score": 0.45}
    for step, share in ((3, 0), (7, 0), (11, sum(taken) / 8)):
        assert figures[step] == pytest.approx({"replay/replayed": share, **hard})
    assert not any(figures[step] for step in range(12) if step % 4 != 3)


def test_the_latest_sighting_counts_and_of_one_step_the_higher():
    memory = replay_of(n_normals=4, period=3)
    see(memory, 0, {0: 0.9, 1: 0.2})
    see(memory, 1, {0: 0.3})
    two = [positives(1)[0], *(sample_of(record(1, path=Path("/x"))) for _ in range(2))]
    memory.after_step(2, two, torch.tensor([0.0, 0.7, 0.6]), alone)
    assert memory._scores[:2].tolist() == pytest.approx([0.3, 0.7])
    assert memory._scores[2:].isnan().all()


def test_processes_rank_alike_whoever_saw_an_image_last():
    ranks = [replay_of(n_normals=4, hard_share=0.5) for _ in range(2)]
    sent: list = []
    seen = [[{0: 0.1, 1: 0.9}, {2: 0.5}], [{3: 0.4}, {1: 0.2}]]  # rank 1 saw image 1 last
    for rank in range(2):  # what each would send
        for step in range(2):
            see(ranks[rank], step, seen[rank][step], lambda part: sent.extend(part) or part)
    ranks = [replay_of(n_normals=4, hard_share=0.5) for _ in range(2)]
    for rank in range(2):
        for step in range(2):
            see(ranks[rank], step, seen[rank][step], lambda part: sent)
    assert ranks[0]._scores.tolist() == pytest.approx([0.1, 0.2, 0.5, 0.4])
    assert torch.equal(ranks[0]._scores, ranks[1]._scores)
    assert [memory.hard_in(2).tolist() for memory in ranks] == [[2, 3], [2, 3]]


def test_a_memory_goes_on_from_a_checkpoint(tmp_path):
    def steps(memory, numbers):
        for step in numbers:
            see(memory, step, {step % 4: (7 * step % 10) / 10})
            drawn.append([memory.replacement(number) for number in range(step, step + 2)])

    drawn: list = []
    whole, parts = replay_of(), replay_of()
    steps(whole, range(13))
    uninterrupted, drawn = drawn, []
    steps(parts, range(7))  # in the middle of a window
    parts.merge(alone)
    torch.save(parts.state_dict(), tmp_path / "state.pth")
    again = replay_of()
    again.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True), source="")
    steps(again, range(7, 13))
    assert drawn == uninterrupted
    assert any(place is not None for pair in drawn for place in pair)
    again.merge(alone)
    whole.merge(alone)
    for key, value in whole.state_dict().items():
        other = again.state_dict()[key]
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(other)), key


def test_another_checkpoint_is_taken_as_far_as_it_fits(caplog):
    memory = replay_of(n_normals=2, period=1)
    for step in range(2):
        see(memory, step, {0: 0.5, 1: 0.6})
    state = memory.state_dict()
    slower = replay_of(n_normals=2, period=5)
    slower.load_state_dict(state, source="last.pth")
    assert slower._scores.tolist() == pytest.approx([0.5, 0.6])
    assert [slower.hard_in(window).tolist() for window in range(2)] == [[], []]
    new = replay_of()
    new.load_state_dict({}, source="last.pth")
    assert "last.pth remembers no normal images" in caplog.text
    with pytest.raises(CheckpointError, match=r"last\.pth remembers 2 normal images.*have 4"):
        new.load_state_dict(state, source="last.pth")


def test_normal_images_with_boxes_are_neither_remembered_nor_replayed():
    memory = replay_of(n_normals=3, fraction=0.9, hard_share=1.0, period=1, boxed={1})
    boxed = sample_of(record(1, boxes=[(1, 1, 9, 9)], path=Path("/x")))
    assert boxed.targets == ImageTargets(boxed.targets.boxes, boxed.targets.labels, False)
    free = [sample_of(record(i, path=Path("/x"))) for i in (0, 2)]
    memory.after_step(0, [boxed, *free], torch.tensor([0.9, 0.1, 0.2]), alone)
    assert memory.hard_in(2).tolist() == [2, 0]
    with pytest.raises(ConfigError, match=r"FRACTION is 0\.9.* 2 normal images carries boxes"):
        replay_of(n_normals=2, fraction=0.9, boxed={0, 1})


def test_an_unknown_normal_image_is_a_mistake_of_the_caller():
    with pytest.raises(KeyError):
        replay_of().after_step(0, normals(1), torch.zeros(1), alone)
