"""What a model found, on disk: written by prediction, read by evaluation and pseudo-labelling.

Two files side by side. ``<stem>.json`` is a COCO results list (``image_id``, ``category_id``,
``bbox`` as XYWH in pixels of the stored image, ``score``, and of a model with a second look
``first_score``, ``second_score`` and ``second_look_bbox``, of one with a mask head ``segmentation``
as run lengths), which every COCO tool reads.
``<stem>.meta.json`` says what such a list cannot: which images were run (an image without
detections is known to have been looked at), what the category numbers mean, and where the numbers
come from.

Shapes: D detections of one image; boxes (D, 4) XYXY float64, half open, origin top left.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simfrcnn.detection_entries import SQUARE as SQUARE
from simfrcnn.detection_entries import ImageDetections as ImageDetections
from simfrcnn.detection_entries import ImageOf, by_image, entries_of
from simfrcnn.errors import ArtifactError
from simfrcnn.files import json_of, sha256_of, write_json
from simfrcnn.image_names import ImageNames, ids_of_truth
from simfrcnn.records import ImageRecord

DETECTIONS_SCHEMA_VERSION = 1
MASKS_FROM = "masks_from_score"
"""In the provenance of a model with a mask head: from which score on detections have a mask."""
_KIND = "simfrcnn-detections"


@dataclass(frozen=True)
class DetectionFile:
    """The detections of a set of images.

    ``images`` holds one entry per image that was run, also where nothing was found. ``categories``
    are the model's classes by COCO id. ``is_coverage_stated`` is False for a list by another tool,
    without a sidecar: there, every image of the annotation file is taken to have been run.
    ``class_maps`` are files that a prediction with a whole-image classifier lists: image -> class
    -> an 8-bit grey PNG over the stored image; they need not be there.
    """

    images: Mapping[int, ImageDetections]
    categories: Mapping[int, str]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    is_coverage_stated: bool = True
    class_maps: Mapping[int, Mapping[str, Path]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return str(self.path) if self.path else "the detections"


def sidecar_of(path: Path) -> Path:
    """Where the facts about a list stand: ``detections.json`` -> ``detections.meta.json``."""
    return path.with_name(f"{path.stem}.meta.json")


def write_detections(
    path: Path,
    images: Iterable[ImageDetections],
    *,
    categories: Mapping[int, str],
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a COCO results list and its sidecar.

    The sidecar holds the list's hash, so that a list and a sidecar of two different runs are never
    taken for one (for instance after a kill between the two writes).

    Args:
        path: The results list; its name must not end in ``.meta.json``.
        images: One entry for every image that was run, in any order.
        categories: COCO id -> class name, for every class the model knows.
        provenance: Facts about the run, JSON types only: ``annotations_sha256``, ``engine``,
            ``checkpoint_sha256`` ...

    Raises:
        ArtifactError: An image given twice, or a detection of a class that ``categories`` lacks.
        OutputError: The files cannot be written.
    """
    path = Path(path)
    by_id: dict[int, ImageDetections] = {}
    for image in images:
        if image.image_id in by_id:
            raise ArtifactError(f"image {image.image_id} was given twice for {path}; once is legal")
        by_id[image.image_id] = image
    ids = {name: number for number, name in categories.items()}
    entries: list[dict[str, Any]] = []
    for image_id in sorted(by_id):
        entries.extend(entries_of(by_id[image_id], ids, path))
    write_json(path, entries, indent=None)
    write_sidecar(path, image_ids=by_id, categories=categories, provenance=provenance)


def write_sidecar(
    path: Path,
    *,
    image_ids: Iterable[int],
    categories: Mapping[int, str],
    provenance: Mapping[str, Any] | None = None,
    image_list: str | None = None,
) -> None:
    """Write the sidecar of a results list that is there, as :func:`write_detections` does.

    ``image_list`` is the name of a COCO file beside it that tells the images' file names and sizes:
    by these, detections meet an annotation file that numbers the images in another way.

    Raises:
        OutputError: The file cannot be written.
    """
    write_json(
        sidecar_of(path),
        {
            "kind": _KIND,
            "schema_version": DETECTIONS_SCHEMA_VERSION,
            "detections_sha256": sha256_of(path),
            "categories": {str(number): name for number, name in sorted(categories.items())},
            "image_ids": sorted(image_ids),
            "provenance": dict(provenance or {}),
            **({} if image_list is None else {"image_list": image_list}),
        },
    )


def read_detections(
    path: Path | str,
    *,
    records: Iterable[ImageRecord] | None = None,
    categories: Mapping[int, str] | None = None,
) -> DetectionFile:
    """Read a COCO results list, with its sidecar or, from another tool, without.

    With a sidecar, ids mean what it says; where it names a list of the images (as that of `predict`
    does) and ``records`` are given, the images are found in them by number or file name, and get
    their ids. Without one, the records of the annotation file say
    which image an entry means, by ``image_id``, by ``file_name`` or by both (see
    :mod:`simfrcnn.image_names`), and all of them count as run.

    >>> import json, pathlib, tempfile
    >>> from simfrcnn.records import ImageRecord, Supervision
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "results.json")
    >>> box = {"category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.9}
    >>> _ = path.write_text(json.dumps([{"image_id": "0001", "file_name": "0001.png", **box}]))
    >>> record = ImageRecord(
    ...     image_id=7, file_name="images/0001.png", path=path, height=90, width=60,
    ...     patient_id="p1", exam_id="e1", supervision=Supervision.NORMAL,
    ... )
    >>> found = read_detections(path, records=[record], categories={1: "malignant"})
    >>> found.images[7].boxes.tolist(), found.images[7].categories
    ([[10.0, 20.0, 40.0, 60.0]], ('malignant',))
    >>> folder.cleanup()

    Args:
        path: The results list.
        records: The images of the annotation file.
        categories: The annotation file's COCO id -> class name; used only where there is no
            sidecar.

    Raises:
        ArtifactError: The file is missing, not a results list, of another schema version, does not
            belong to its sidecar, or has an entry with an unknown image or category, whose id and
            file name mean two images, with a score that is NaN or outside [0, 1], or a box with a
            negative side; or a prediction's image is not among the records, or of another size.
    """
    path = Path(path)
    entries = _load_json(path, "a COCO results list")
    if not isinstance(entries, list):
        raise ArtifactError(
            f"{path} holds a JSON {type(entries).__name__}; a COCO results list is legal: "
            '[{"image_id", "category_id", "bbox", "score"}, ...]'
        )
    meta = _read_sidecar(path)
    is_coverage_stated = meta is not None
    image_of: ImageOf | None = None
    listed = None if records is None else list(records)
    if meta is None:
        if listed is None or categories is None:
            raise ArtifactError(
                f"{path} has no sidecar {sidecar_of(path).name}, so the images that were run and "
                "the names of the categories are unknown; give the annotation file it was made on"
            )
        image_of = ImageNames(listed).image_of
        meta = (dict(categories), {record.image_id for record in listed}, {}, None)
    names, covered, provenance, image_list = meta
    images = by_image(
        entries,
        covered,
        names,
        path,
        image_of,
        has_masks=MASKS_FROM in provenance,
    )
    class_maps: Mapping[int, Mapping[str, Path]] = {}
    if image_list is not None and listed is not None and image_list.exists():
        images, class_maps = _as_numbered_in_truth(images, image_list, listed)
    return DetectionFile(
        images=images,
        categories=names,
        provenance=provenance,
        path=path,
        is_coverage_stated=is_coverage_stated,
        class_maps=class_maps,
    )


def _as_numbered_in_truth(
    images: Mapping[int, ImageDetections], image_list: Path, records: Sequence[ImageRecord]
) -> tuple[dict[int, ImageDetections], dict[int, dict[str, Path]]]:
    """The same detections under the ids of an annotation file, and the class maps listed there."""
    content = _load_json(image_list, "the list of the images of a prediction")
    try:
        predicted = [image for image in content["images"] if image["id"] in images]
        ids = ids_of_truth(predicted, records, str(image_list))
        maps = {
            ids[image["id"]]: {
                str(name): _below(image_list, place) for name, place in image["class_maps"].items()
            }
            for image in predicted
            if image["id"] in ids and "class_maps" in image
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{image_list} is damaged ({type(error).__name__}: {error}): start the same predict "
            "command again, which makes it again"
        ) from error
    lost = sorted(set(images) - set(ids))
    if lost:
        raise ArtifactError(
            f"{image_list} lacks image {lost[0]} of the detections beside it: start the same "
            "predict command again, which makes it again"
        )
    found = {
        ids[number]: dataclasses.replace(image, image_id=ids[number])
        for number, image in images.items()
    }
    return found, maps


def _below(image_list: Path, place: str) -> Path:
    """A file that a list names, which may come from elsewhere: it lies below the list's folder."""
    folder = Path(os.path.normpath(image_list.parent))
    path = Path(os.path.normpath(folder / place))
    if not path.is_relative_to(folder):
        raise ArtifactError(
            f"{image_list}: the class map {place!r} lies outside the folder of the prediction; a "
            "file below it is legal, as predict writes it: start the same predict command again"
        )
    return path


Meta = tuple[dict[int, str], set[int], dict[str, Any], Path | None]


def _read_sidecar(path: Path) -> Meta | None:
    """Category names, image ids, provenance and list of images; None without a sidecar."""
    sidecar = sidecar_of(path)
    if not sidecar.exists():
        return None
    meta = _load_json(sidecar, "the sidecar of a detections file")
    if not isinstance(meta, dict) or meta.get("kind") != _KIND:
        raise ArtifactError(
            f"{sidecar} is not the sidecar of a detections file (its 'kind' must be {_KIND!r})"
        )
    if meta.get("schema_version") != DETECTIONS_SCHEMA_VERSION:
        raise ArtifactError(
            f"{sidecar} has schema version {meta.get('schema_version')!r}; this program reads "
            f"{DETECTIONS_SCHEMA_VERSION}: run the prediction again with this version"
        )
    if meta.get("detections_sha256") != sha256_of(path):
        raise ArtifactError(
            f"{sidecar.name} belongs to another version of {path} (the hash differs): run the "
            "prediction again, or delete the sidecar to read the list as another tool's"
        )
    try:
        names = {int(number): str(name) for number, name in meta["categories"].items()}
        covered = {int(image_id) for image_id in meta["image_ids"]}
        provenance = dict(meta["provenance"])
        listed = meta.get("image_list")
        image_list = None if listed is None else path.with_name(listed)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{sidecar} is damaged ({type(error).__name__}: {error}): it must hold 'categories', "
            "'image_ids' and 'provenance'; run the prediction again"
        ) from error
    return names, covered, provenance, image_list


def _load_json(path: Path, what: str) -> Any:
    try:
        return json_of(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist; {what} was expected there") from error
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror}); {what} was expected there"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} is not {what}: it is not valid JSON ({error})") from error
