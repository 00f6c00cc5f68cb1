"""What does a reader who is given a model have to know? Its card, as one page of Markdown.

All of it travels in the file; what the file does not say is named, not left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simfrcnn.config import BEST_BY
from simfrcnn.engines.common.cards import DETECTS_WITH, INTENDED_USE, NOT_A_MEDICAL_DEVICE
from simfrcnn.errors import OutputError
from simfrcnn.evaluation import operating
from simfrcnn.files import write_text
from simfrcnn.workflows.export import ModelFacts, describe_model
from simfrcnn.workflows.models import TITLES, figures_of, short
from simfrcnn.zoo import FOLDER as ZOO

_NOT_STATED = "not stated"


def write_card(weights: str | Path, output: Path) -> Path:
    """Write the card of a model.

    Args:
        weights: A checkpoint, or the name of a model that comes with simfrcnn.
        output: A new file.

    Raises:
        CheckpointError: The weights cannot be read.
        OutputError: The file is there already, or cannot be written.
    """
    if output.exists():
        raise OutputError(f"{output} is there already; give another file")
    write_text(output, card_of(weights))
    return output


def card_of(weights: str | Path) -> str:
    """The card of a model, as Markdown.

    Raises:
        CheckpointError: The weights cannot be read.
    """
    facts = describe_model(weights)
    parts = [
        _head(facts),
        _use(facts.card),
        _data(facts.card),
        _figures(facts),
        _points(facts),
        _limits(facts.card),
        _making(facts),
    ]
    return "\n".join(line for part in parts for line in (*part, ""))


def _head(facts: ModelFacts) -> Iterator[str]:
    yield f"# {facts.card.get('name') or facts.path.name}"
    yield ""
    yield f"> **{facts.card.get('warning') or NOT_A_MEDICAL_DEVICE}**"
    yield ""
    yield from _table(
        ("", ""),
        [
            ("model", facts.kind),
            ("finds", ", ".join(facts.classes) or _NOT_STATED),
            ("counts as positive", ", ".join(facts.target_classes) or _NOT_STATED),
            ("licence", facts.card.get("licence") or _NOT_STATED),
            ("engine", facts.engine),
            ("numbers in the weights", f"{facts.n_parameters:,}"),
            ("sha256 of the weights", f"`{facts.weights_sha256}`"),
        ],
    )


def _use(card: Mapping[str, Any]) -> Iterator[str]:
    yield "## Intended use"
    yield card.get("intended_use") or INTENDED_USE
    yield ""
    yield (
        "Not for diagnosis, screening, triage, or any decision about a patient. The file says "
        "nothing of an approval by any authority, nor of a study with readers."
    )


def _data(card: Mapping[str, Any]) -> Iterator[str]:
    yield "## Data"
    rows = [
        (
            role,
            one["name"],
            one["patients"],
            one["exams"],
            one["images"],
            ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in one["supervision"].items()),
            ", ".join(f"{n} {name}" for name, n in one["boxes"].items()) or "none",
            f"`{one['sha256'][:12]}`",
        )
        for role, key in (("training", "trained_on"), ("validation", "validated_on"))
        for one in card.get(key, ())
    ]
    if not rows:
        yield f"Training and validation data: {_NOT_STATED} in the file."
        return
    columns = ("for", "name", "patients", "exams", "images", "images with", "boxes", "sha256")
    yield from _table(columns, rows)
    yield ""
    yield f"Weights at the start: {card.get('started_from') or _NOT_STATED}."


def _figures(facts: ModelFacts) -> Iterator[str]:
    yield "## Figures"
    for key, values in facts.card.get(DETECTS_WITH, {}).items():
        yield f"Since the training, {key} was changed from {values['trained']} to {values['now']}."
    figures = figures_of(facts)
    if not figures:
        yield "None travel in the file: how good the model is, is not known from it."
        return
    for data_set, own in figures.items():
        is_validation = data_set in {one["name"] for one in facts.card.get("validated_on", ())}
        yield f"On {data_set}{_chosen_there(facts) if is_validation else ''}:"
        yield ""
        yield from _table(
            ("figure", "value", "95% interval", "method"),
            [
                (
                    TITLES.get(name, name),
                    short(one["value"]),
                    "none"
                    if one.get("low") is None
                    else f"{short(one['low'])} to {short(one['high'])}",
                    one.get("method") or _NOT_STATED,
                )
                for name, one in own.items()
            ],
        )


def _chosen_there(facts: ModelFacts) -> str:
    """What was chosen on the validation sets."""
    things = []
    if "validation_in_training" in facts.card:
        figure = BEST_BY[facts.card.get("checkpoint_chosen_by", "case/auc")]
        things.append(f"the checkpoint (by {figure})")
    if facts.operating_points is not None:
        things.append("the operating points")
    verb = "were" if facts.operating_points is not None else "was"
    return f", on which {' and '.join(things)} {verb} chosen" if things else ""


def _points(facts: ModelFacts) -> Iterator[str]:
    yield "## Operating points"
    if facts.operating_points is None:
        yield "None travel in the file: its scores have no threshold that was chosen on data."
        return
    chosen = operating.points_from(dict(facts.operating_points), source=facts.path)
    yield from (f"- {line}" for line in operating.lines_on(chosen))


def _limits(card: Mapping[str, Any]) -> Iterator[str]:
    yield "## Limits"
    yield from (f"- {limit}" for limit in card.get("limits") or ["None are stated in the file."])


def _making(facts: ModelFacts) -> Iterator[str]:
    card = facts.card
    size = card.get("input", {}).get("size_px")
    yield "## How it was made, and how to make it again"
    yield from _table(
        ("", ""),
        [
            ("begun", card.get("date") or _NOT_STATED),
            ("simfrcnn", card.get("simfrcnn") or _NOT_STATED),
            ("commit", card.get("commit") or _NOT_STATED),
            ("steps", card.get("steps") or _NOT_STATED),
            ("images a step", card.get("images_per_step") or _NOT_STATED),
            ("seed", card.get("seed", _NOT_STATED)),
            ("input in pixels", " x ".join(map(str, size)) if size else _NOT_STATED),
        ],
    )
    yield ""
    changed = card.get(DETECTS_WITH, {})
    back = [shlex.join((key, str(values["trained"]))) for key, values in changed.items()]
    if back:
        yield "The second command sets back what was changed since the training."
        yield ""
    yield "```"
    named = facts.path.stem if facts.path.parent == ZOO else facts.path.name
    yield f"simfrcnn show {named} --config > config.yaml    # the whole config, resolved"
    yield (
        f"simfrcnn train-net --config-file config.yaml --engine {facts.engine} "
        f"--dataset NAME=FILE ... {' '.join(['OUTPUT_DIR again', *back])}"
    )
    yield "```"
    yield (
        "with the data sets named above; the hashes are those of their annotation files. One "
        "machine, engine, number of threads and seed give the same weights; another machine "
        "rounds otherwise."
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        cells = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in row)
        yield f"| {' | '.join(cells)} |"
