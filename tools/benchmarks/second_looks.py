"""What does the second look owe its gain to?

`python tools/benchmarks/second_looks.py --output output/second_looks` trains one detector with
several second looks beside it, which differ in one thing each, and judges them all on the same
detections. That is possible because a second look leaves every draw and loss of its detector as it
is, to the last bit: each of them learns as it would alone, for a fifth of a training's time. The
result is `docs/results/second_looks.md`.

The same command goes on where it was ended. `DIR/seed_<n>/<kind>/` holds the detections of each
kind; `DIR/case_scores.csv` has the score of every case, in the form of a ladder's. With Detectron2.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from simfrcnn import artifacts, config
from simfrcnn.artifacts import ImageDetections
from simfrcnn.data import catalog
from simfrcnn.data.coco import AnnotatedSet
from simfrcnn.engines.common.checkpoints import LAST
from simfrcnn.engines.common.inference import detect_records, load_detector
from simfrcnn.engines.common.second_look import build_second_look
from simfrcnn.engines.common.validation import category_ids
from simfrcnn.engines.contract import load_engine
from simfrcnn.evaluation.comparison import Resampled, compare, mean_over_seeds, resample
from simfrcnn.evaluation.trainings import over_trainings, verdict_on, wider
from simfrcnn.evaluation.truth import Truth
from simfrcnn.ladder.scores import COLUMNS
from simfrcnn.second_look import Found, Picture, Regions, SecondLook, picture_of
from simfrcnn.second_look.choice import choose_regions, is_positive, jittered, suspected
from simfrcnn.second_look.crops import least_sides, squares_around
from simfrcnn.second_look.memory import Memory
from simfrcnn.second_look.module import balanced_cross_entropy
from simfrcnn.second_look.scores import Rescored, combined
from simfrcnn.structures import ImageTargets, Sample
from simfrcnn.workflows.training import resolved_config

CONFIG = "ladder/_second_look_parts.yaml"
FIRST = "second_look"
DETECTOR = "faster_top"
"""The detector's own score, of the same boxes."""
MARGIN = 0.02
"""In AUC by case: the largest difference that does not matter."""
METRICS = ("case/auc", "image/auc", "finding/ap50")
_GRID = 14
_LEVEL, _STRIDE = "p2", 4


# -- the second looks ----------------------------------------------------------------------------


@dataclass(frozen=True)
class FromSample(Picture):
    """What squares are cut from, and the sample that it is of."""

    sample: Sample | None = None


class Evenly(SecondLook):
    """Draws the suspected places of a normal image evenly, not in proportion to suspicion."""

    def training_loss(
        self,
        pictures: Sequence[Picture],
        targets: Sequence[ImageTargets],
        regions: Sequence[Regions],
    ) -> Tensor:
        pairs = zip(regions, targets, strict=True)
        return super().training_loss(pictures, targets, [self._evened(*pair) for pair in pairs])

    def _evened(self, regions: Regions, targets: ImageTargets) -> Regions:
        if is_positive(targets, self.target_labels):
            return regions
        known = regions.cpu().finite()
        places = suspected(known.boxes, known.suspicion)
        alike = torch.ones(len(places))
        return Regions(known.boxes[places], known.labels[places], alike)


class NotNormalised(SecondLook):
    """Sees grey levels as they are: the mean and deviation of a square are left in it."""

    def _judged(self, squares: Tensor) -> tuple[Tensor, Tensor]:
        vectors, logits = self.judge(((squares - 127.5) / 64).to(self.judge.classifier.weight))
        return vectors, logits


class Unbalanced(SecondLook):
    """Learns from one square of a positive image to seven others, by the plain mean of all."""

    def _filled_up(
        self, squares: Tensor, labels: Tensor, is_of_positive: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        n_positive = self.settings.batch_size // 8
        parts = []
        for side, wanted in ((True, n_positive), (False, self.settings.batch_size - n_positive)):
            own = torch.nonzero(is_of_positive == side).flatten()[:wanted]
            old, old_labels, old_weights = self.memory.drawn(wanted - len(own), is_of_positive=side)
            parts.append(
                (
                    torch.cat([squares[own], old]),
                    torch.cat([labels[own], old_labels]),
                    torch.full((len(own) + len(old),), side),
                    torch.cat([weights[own], old_weights]),
                )
            )
        self.memory.add(squares, labels, is_of_positive, weights)
        batch, batch_labels, sides, batch_weights = map(torch.cat, zip(*parts, strict=True))
        n_of_side = torch.where(sides, int(sides.sum()), int((~sides).sum()))
        return batch, batch_labels, sides, batch_weights * 2 * n_of_side / max(len(sides), 1)


class OnFeatures(SecondLook):
    """Sees the detector's own features of the square, 14 x 14 at stride 4, without gradient."""

    features: Tensor
    """(N, C, H, W) of the images of the last forward pass; set before each call."""

    def training_loss(
        self,
        pictures: Sequence[Picture],
        targets: Sequence[ImageTargets],
        regions: Sequence[Regions],
    ) -> Tensor:
        drawn = [
            choose_regions(
                found.cpu(),
                of_image,
                target_labels=self.target_labels,
                n_regions=self.settings.regions_per_image,
            )
            for found, of_image in zip(regions, targets, strict=True)
        ]
        logits = self._logits(pictures, [jittered(boxes) for boxes, _, _ in drawn])
        sides = [is_positive(of_image, self.target_labels) for of_image in targets]
        counts = torch.tensor([len(boxes) for boxes, _, _ in drawn])
        return self.settings.weight * balanced_cross_entropy(
            logits,
            torch.cat([labels for _, labels, _ in drawn]),
            torch.tensor(sides).repeat_interleave(counts),
        )

    @torch.no_grad()
    def rescored(self, pictures: Sequence[Picture], found: Sequence[Found]) -> list[Rescored]:
        best = self.settings.detections_per_image
        boxes = [one.boxes[:best].cpu().float() for one in found]
        chances = self._logits(pictures, boxes).softmax(dim=1)
        of_images = torch.split(chances, [len(each) for each in boxes])
        return [
            combined(
                one.scores,
                one.labels,
                of_image,
                own,
                first_exponent=self.settings.first_exponent,
            )
            for one, of_image, own in zip(found, of_images, boxes, strict=True)
        ]

    def _logits(self, pictures: Sequence[Picture], boxes: Sequence[Tensor]) -> Tensor:
        squares = [
            squares_around(
                own,
                context=self.settings.context,
                least=least_sides(
                    picture_of(sample_of(picture), "input").spacing_mm,
                    min_mm=self.settings.min_mm,
                    size=self.settings.size,
                ),
            )
            for picture, own in zip(pictures, boxes, strict=True)
        ]
        grids = roi_align(self.features, squares, _GRID, spatial_scale=1 / _STRIDE, aligned=True)
        logits: Tensor = self.judge(grids)
        return logits


class FeatureJudge(nn.Sequential):
    """Four 3 x 3 convolutions with GroupNorm on the detector's features: .6 M parameters."""

    def __init__(self, n_channels: int, n_classes: int) -> None:
        layers: list[nn.Module] = []
        for number in range(4):
            convolution = nn.Conv2d(n_channels, n_channels, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.GroupNorm(8, n_channels), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] * (number == 1)
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.append(nn.Linear(n_channels, n_classes + 1))


@dataclass(frozen=True)
class Kind:
    """A second look: how its config differs from the first one's, and its form."""

    options: tuple[str, ...] = ()
    form: type[SecondLook] = SecondLook


KINDS: Mapping[str, Kind] = {
    FIRST: Kind(),
    "random": Kind(("MODEL.SECOND_LOOK.NORMALS", "random")),
    "evenly": Kind(form=Evenly),
    "input": Kind(("MODEL.SECOND_LOOK.SOURCE", "input")),
    "features": Kind(("MODEL.SECOND_LOOK.MEMORY", "0"), OnFeatures),
    "no_memory": Kind(("MODEL.SECOND_LOOK.MEMORY", "0")),
    "unbalanced": Kind(form=Unbalanced),
    "not_normalised": Kind(form=NotNormalised),
    "cosine": Kind(("MODEL.SECOND_LOOK.SIMILARITY", "cosine")),
    "contrastive": Kind(("MODEL.SECOND_LOOK.SIMILARITY", "contrastive")),
}


def sample_of(picture: Picture) -> Sample:
    """The sample of a picture that :func:`beside_one_detector` has made."""
    sample = cast(FromSample, picture).sample
    assert sample is not None
    return sample


class Memories:
    """The memories of several second looks, as one state."""

    def __init__(self, memories: Mapping[str, Memory]) -> None:
        self._memories = memories

    def state_dict(self) -> dict[str, Any]:
        return {name: memory.state_dict() for name, memory in self._memories.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, memory in self._memories.items():
            memory.load_state_dict(state.get(name, {}))


class SecondLooks(nn.Module):
    """Several second looks in the place of one. Each draws what it would draw alone.

    Shapes: N images of a batch; (N, C, H, W) their features.
    """

    def __init__(self, looks: Mapping[str, SecondLook], classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = classes
        self.looks = nn.ModuleDict(looks)
        self.settings = looks[FIRST].settings
        self.memory = Memories({name: look.memory for name, look in looks.items()})
        self.features = torch.empty(0)
        self.found: dict[str, list[ImageDetections]] = {}
        """Of each image that was detected in, by each kind and by the detector alone."""
        self.forget_found()

    def forget_found(self) -> None:
        """Keep what is found from now on."""
        self.found = {name: [] for name in (*self.looks, DETECTOR)}

    def items(self) -> Iterator[tuple[str, SecondLook]]:
        """The second looks by name, with the features of the last forward pass."""
        for name, module in self.looks.items():
            look = cast(SecondLook, module)
            if isinstance(look, OnFeatures):
                look.features = self.features
            yield name, look

    def training_loss(
        self,
        pictures: Sequence[Picture],
        targets: Sequence[ImageTargets],
        regions: Sequence[Regions],
    ) -> Tensor:
        """The sum of their losses, which share no weight."""
        before, total, after = torch.get_rng_state(), torch.zeros(()), None
        for _, look in self.items():
            torch.set_rng_state(before)
            seen = [picture_for(look, picture) for picture in pictures]
            total = total + look.training_loss(seen, targets, regions)
            after = torch.get_rng_state() if after is None else after
        assert after is not None
        torch.set_rng_state(after)
        return total

    @torch.no_grad()
    def rescored(self, pictures: Sequence[Picture], found: Sequence[Found]) -> list[Rescored]:
        """What the first one makes of the detections; what each does is kept in ``found``."""
        again = {
            name: look.rescored([picture_for(look, each) for each in pictures], found)
            for name, look in self.items()
        }
        samples = [sample_of(picture) for picture in pictures]
        for name, of_images in again.items():
            for sample, one, after in zip(samples, found, of_images, strict=True):
                order = after.order
                judged = Found(one.boxes[order], after.scores, one.labels[order])
                self.found[name].append(in_original_pixels(sample, judged, self.classes))
        for sample, one in zip(samples, found, strict=True):
            self.found[DETECTOR].append(in_original_pixels(sample, one, self.classes))
        return again[FIRST]


def picture_for(look: SecondLook, picture: Picture) -> Picture:
    """What a second look cuts its squares from."""
    if look.settings.source == "native":
        return picture
    return picture_of(sample_of(picture), look.settings.source)


def in_original_pixels(sample: Sample, found: Found, classes: Sequence[str]) -> ImageDetections:
    """What was found, but for boxes that lie in the padding alone."""
    boxes = sample.frame.to_original(found.boxes)
    is_there = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return ImageDetections(
        sample.record.image_id,
        boxes[is_there].double().numpy(),
        found.scores[is_there].double().numpy(),
        tuple(classes[label - 1] for label in found.labels[is_there].tolist()),
    )


def build_looks(cfg: Any, kinds: Sequence[str]) -> SecondLooks:
    """One second look of each kind; each starts with the weights that it would have alone."""
    before, looks = torch.get_rng_state(), {}
    for name in kinds:
        torch.set_rng_state(before)
        kind, own = KINDS[name], cfg.clone()
        own.defrost()
        own.merge_from_list(list(kind.options))
        look = build_second_look(own)
        assert look is not None
        if kind.form is not SecondLook:
            look = kind.form(
                look.settings,
                look.judge,
                target_labels=look.target_labels,
                similarity=look.similarity,
            )
        if isinstance(look, OnFeatures):
            n_classes = look.judge.classifier.out_features - 1
            look.judge = cast(Any, FeatureJudge(cfg.MODEL.FPN.OUT_CHANNELS, n_classes))
        looks[name] = look
    return SecondLooks(looks, config.data_settings(cfg).classes)


@contextlib.contextmanager
def beside_one_detector(kinds: Sequence[str]) -> Iterator[list[SecondLooks]]:
    """While this holds, models are built with a second look of each kind; gives those built."""
    from simfrcnn.engines.detectron2 import meta_arch

    built: list[SecondLooks] = []

    def build(cfg: Any) -> SecondLooks:
        built.append(build_looks(cfg, kinds))
        return built[-1]

    def picture(sample: Sample, source: Any) -> FromSample:
        made = picture_of(sample, source)
        return FromSample(made.pixels, made.frame, made.spacing_mm, sample)

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, dict) and _LEVEL in output and built:
            built[-1].features = output[_LEVEL].detach().float()

    hook = nn.modules.module.register_module_forward_hook(keep)
    with (
        mock.patch.object(meta_arch, "build_second_look", build),
        mock.patch.object(meta_arch, "picture_of", picture),
    ):
        try:
            yield built
        finally:
            hook.remove()


# -- trainings and tests --------------------------------------------------------------------------


def train_and_test(cfg: Any, folder: Path, kinds: Sequence[str]) -> None:
    """Train a detector with all kinds beside it, and write what each finds in the test set."""
    engine = load_engine("detectron2")
    with beside_one_detector(kinds) as built:
        engine.train(cfg, resume=True)
        model = load_detector(engine, cfg, Path(cfg.OUTPUT_DIR, LAST))
        built[-1].forget_found()  # of validation
        test = test_set_of(cfg)
        detect_records(cfg, model, engine.detect, test.records, title="test")
    categories = category_ids(config.data_settings(cfg).classes, test)
    for name, found in built[-1].found.items():
        path = detections_in(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"annotations_sha256": test.sha256}
        artifacts.write_detections(path, found, categories=categories, provenance=facts)


def test_set_of(cfg: Any) -> AnnotatedSet:
    """The images that are judged."""
    files = catalog.parse_files(tuple(cfg.DATASETS.FILES))
    return catalog.load(cfg.DATASETS.TEST[0], files)


def detections_in(folder: Path, kind: str) -> Path:
    """Where the detections of a kind are, or will be."""
    return folder / kind / "detections.json"


def judged(
    output: Path, kinds: Sequence[str], seeds: Sequence[int], options: Sequence[str]
) -> dict[str, dict[int, Resampled]]:
    """Each kind with each seed that is done, on the same resamplings of the test patients."""
    cfg = resolved_config(load_engine("detectron2"), CONFIG, overrides=list(options))
    test = test_set_of(cfg)
    rules = config.evaluation_settings(cfg)
    models: dict[str, dict[int, Resampled]] = {}
    for kind in kinds:
        for seed in seeds:
            path = detections_in(output / f"seed_{seed}", kind)
            if path.exists():
                found = artifacts.read_detections(path)
                one = resample(test.records, found, rules, categories=test.categories)
                models.setdefault(kind, {})[seed] = one
    return models


def table(models: Mapping[str, Mapping[int, Resampled]], metric: str = METRICS[0]) -> list[str]:
    """Lines of Markdown: each kind, and its difference from the first, with the wider interval."""
    rows = [f"| {metric} | mean | each seed | less `{FIRST}` | verdict |", "|---|---|---|---|---|"]
    for kind, own in models.items():
        figure = mean_over_seeds(list(own.values()))[metric]
        by_seed = [float(model.values[metric][0]) for model in own.values()]
        quoted = wider(figure, over_trainings(by_seed, figure, 0, 1))
        cells = [f"{quoted.value:.3f} ({quoted.low:.3f} to {quoted.high:.3f})"]
        cells.append(", ".join(f"{value:.3f}" for value in by_seed))
        both = [seed for seed in own if seed in models.get(FIRST, {})]
        if kind != FIRST and both:
            first = [models[FIRST][seed] for seed in both]
            change = compare([own[seed] for seed in both], first).differences[metric]
            mean = wider(change.figure, over_trainings(change.by_seed, change.figure, -1, 1))
            cells.append(f"{mean.value:+.3f} ({mean.low:+.3f} to {mean.high:+.3f})")
            margin = MARGIN if metric == METRICS[0] else None
            cells.append(str(verdict_on(change.by_seed, change.figure, change.n_patients, margin)))
        rows.append(f"| `{kind}` | " + " | ".join(cells + [""] * (4 - len(cells))) + " |")
    return rows


def write_scores(path: Path, models: Mapping[str, Mapping[int, Resampled]]) -> None:
    """The score of every case, in the form of a ladder's ``case_scores.csv``."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for kind, by_seed in models.items():
            for seed, model in by_seed.items():
                cases = model.cases
                rows = zip(cases.patients, cases.ids, cases.truths, cases.scores, strict=True)
                for patient, case, truth, score in rows:
                    name, label = model.patient_ids[patient], Truth(truth).label
                    writer.writerow((kind, seed, name, case, label, repr(float(score))))


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and print the tables of what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="a folder for each seed")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas")
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    parser.add_argument("options", nargs="*", metavar="KEY VALUE", help="as of train-net")
    args = parser.parse_args(words)
    seeds, kinds = [int(seed) for seed in args.seeds.split(",")], args.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"--kinds: {', '.join(sorted(unknown))}; legal are {', '.join(KINDS)}")
    if FIRST not in kinds:
        parser.error(f"--kinds lacks {FIRST}, with which the others are compared")
    for number, seed in enumerate([] if args.report_only else seeds, start=1):
        folder = args.output / f"seed_{seed}"
        if not all(detections_in(folder, kind).exists() for kind in (*kinds, DETECTOR)):
            print(f"[{number}/{len(seeds)}] seed {seed}", file=sys.stderr, flush=True)
            own = ["SEED", str(seed), "OUTPUT_DIR", str(folder / "training")]
            settings = [*args.options, *own, "DATASETS.VAL", "[]"]
            engine = load_engine("detectron2")
            train_and_test(resolved_config(engine, CONFIG, overrides=settings), folder, kinds)
    models = judged(args.output, (*kinds, DETECTOR), seeds, args.options)
    write_scores(args.output / "case_scores.csv", models)
    for metric in METRICS:
        print("\n".join(table(models, metric)), end="\n\n")


if __name__ == "__main__":
    main()
