"""Under which names do a clinic's patients, exams and images leave its own folders?

Every identifier becomes a keyed hash (HMAC-SHA256) of itself and of its kind: the same patient has
the same pseudonym in every data set that is prepared with one key, and without the key nobody can
tell which name it stands for, not even by trying all names. The key and the id map, which leads
back to the source, lie outside the prepared folder and belong to their owner alone.

Reference:
    Krawczyk, Bellare and Canetti (1997), "HMAC: Keyed-Hashing for Message Authentication",
    RFC 2104.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfrcnn.errors import ConfigError, DataError, OutputError
from simfrcnn.files import as_json, writing
from simfrcnn.records import Finding, ImageRecord

IDENTIFIERS = "pseudonyms: keyed hashes, HMAC-SHA256"
"""What ``info.identifiers`` of an annotation file says."""
_SCHEMA = 1
_KEY_BYTES = 32
_HEX_DIGITS = 16
_NUMBER_DIGITS = 13
"""Of an image's number: 52 bits, which every reader of JSON keeps exactly."""

# What an attribute may say as it is: anything else could be a name, a date or a number of a file.
_PLAIN = re.compile(
    r"\d{1,3}|[0-6][abc]|[A-D]|yes|no|true|false|unknown|other|malignant|benign|normal",
    re.IGNORECASE,
)
_VENDORS = {
    "Agfa": r"agfa",
    "Carestream": r"carestream|kodak",
    "Fujifilm": r"fuji",
    "GE": r"\bge\b|general electric",
    "Hologic": r"hologic|lorad",
    "IMS": r"\bims\b|giotto",
    "Konica Minolta": r"konica",
    "Metaltronica": r"metaltronica",
    "Philips": r"philips|sectra",
    "Planmed": r"planmed",
    "Siemens": r"siemens",
}
_SEXES = frozenset("FMO")
_OLDEST = 90
_LEFT_OUT = frozenset({"notes"})
"""Attributes in free words, for the terminal."""


class Pseudonyms:
    """Pseudonyms by one key, and which identifier each stands for."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._sources: dict[str, dict[str, str]] = {}

    @property
    def key_id(self) -> str:
        """What tells two keys apart and says nothing about either."""
        return self._digest("key", "")[:_HEX_DIGITS]

    def text(self, kind: str, source: str) -> str:
        """The pseudonym of an identifier, such as ``patient-0123456789abcdef``.

        Args:
            kind: `patient`, `exam` ...: equal identifiers of two kinds get unlike pseudonyms.
            source: The identifier.

        Raises:
            DataError: Two identifiers would get one pseudonym.
        """
        return self._remembered(kind, f"{kind}-{self._digest(kind, source)[:_HEX_DIGITS]}", source)

    def number(self, kind: str, source: str) -> int:
        """The same as a whole number of 1 to 52 bits.

        Raises:
            DataError: Two identifiers would get one number.
        """
        digits = self._digest(kind, source)[:_NUMBER_DIGITS]
        return int(self._remembered(kind, digits, source), 16)

    def fingerprint(self, text: str) -> str:
        """A keyed hash of what must be recognised but never read, such as a file's date."""
        return self._digest("fingerprint", text)

    def forget(self) -> None:
        """Forget which identifiers were asked for, once the id map holds them: they take memory."""
        self._sources.clear()

    def sources(self) -> dict[str, dict[str, str]]:
        """Kind -> pseudonym -> identifier, of all that were asked for."""
        return {kind: dict(sources) for kind, sources in self._sources.items()}

    def _digest(self, kind: str, source: str) -> str:
        message = f"{kind}\0{source}".encode("utf-8", errors="surrogateescape")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()

    def _remembered(self, kind: str, pseudonym: str, source: str) -> str:
        known = self._sources.setdefault(kind, {})
        if known.setdefault(pseudonym, source) != source:
            raise DataError(
                f"two identifiers of kind {kind} have the same pseudonym {pseudonym} under this "
                "key: use another key (--key-file)"
            )
        return pseudonym


def pseudonymised(
    records: Iterable[ImageRecord],
    pseudonyms: Pseudonyms,
    place_of: Callable[[Path], Path],
) -> tuple[ImageRecord, ...]:
    """Records under pseudonyms, in the order of those, which tells nothing of the source's.

    Patient, exam and lesion get a text; image and finding a number, made of the image's path below
    the root, so that it stays when others come and go. Attributes keep what cannot identify (short
    numbers, density letters, the vendor's name); other texts become a code that is the same for
    equal texts, so that subgroups survive.

    Args:
        records: As the source has them; ``path`` stays.
        pseudonyms: Learns every identifier.
        place_of: A file's path -> the same below the source's root, which identifies the image.

    Raises:
        DataError: Two identifiers get one pseudonym.
    """
    renamed = [_renamed(record, place_of(record.path).as_posix(), pseudonyms) for record in records]
    return tuple(sorted(renamed, key=lambda record: record.image_id))


def name_of_image(image_id: int) -> str:
    """The name, without suffix, of the picture with a pseudonym as its number."""
    return f"{image_id:0{_NUMBER_DIGITS}x}"


def private_folder() -> Path:
    """Where keys and id maps lie by default: ``simfrcnn`` in the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "simfrcnn"


def default_id_map(what: str, out: Path) -> Path:
    """The id map of an output folder, one for each folder."""
    own = hashlib.sha256(os.fsencode(out.resolve())).hexdigest()[:12]
    return private_folder() / "id_maps" / f"{what}-{own}.json"


def require_outside(path: Path, out: Path, option: str) -> None:
    """Refuse a private file inside a folder that is made to be passed on.

    Raises:
        ConfigError: ``path`` lies inside ``out``, by whatever links.
    """
    if path.resolve().is_relative_to(out.resolve()):
        raise ConfigError(
            f"{option} {path}: lies inside the output folder {out}, and would be passed on with "
            "it: give a place outside"
        )


def read_or_make_key(path: Path) -> tuple[bytes, bool]:
    """The key in a file, made if there is none, and whether it was.

    Raises:
        ConfigError: The file is no key, belongs to somebody else, or others can read it.
        OutputError: It cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path), False
    except OSError as error:
        raise OutputError(f"the key {path} cannot be made: {error.strerror}") from error
    key = secrets.token_bytes(_KEY_BYTES)
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(key.hex() + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    return key, True


def write_id_map(path: Path, pseudonyms: Pseudonyms, root: Path | None = None) -> None:
    """Write what every pseudonym stands for, readable by its owner only; older entries stay.

    Args:
        path: The id map.
        pseudonyms: With every identifier that was asked for.
        root: The folder below which the images lie, so that :func:`find_pseudonym` gives paths.

    Raises:
        ConfigError: There is another file, or an id map by another key.
        OutputError: The file cannot be written.
    """
    roots = [str(root.absolute())] if root else []
    _add_to_id_map(path, pseudonyms, pseudonyms.sources(), roots)


def merge_id_maps(path: Path, maps: Sequence[Path], pseudonyms: Pseudonyms) -> None:
    """Put what other id maps by the same key say into one; older entries stay.

    Raises:
        ConfigError: One is no id map, or by another key.
        OutputError: The file cannot be written.
    """
    sources: dict[str, dict[str, str]] = {}
    roots: list[str] = []
    for one in maps:
        content = _read_id_map(one, pseudonyms.key_id)
        roots += content.get("roots", ())
        for kind, entries in content.get("sources", {}).items():
            sources.setdefault(kind, {}).update(entries)
    _add_to_id_map(path, pseudonyms, sources, roots)


def _add_to_id_map(
    path: Path,
    pseudonyms: Pseudonyms,
    new: Mapping[str, Mapping[str, str]],
    new_roots: Sequence[str],
) -> None:
    earlier = _read_id_map(path, pseudonyms.key_id)
    sources: dict[str, dict[str, str]] = dict(earlier.get("sources", {}))
    roots = {*earlier.get("roots", ()), *new_roots}
    for kind, entries in new.items():
        sources[kind] = dict(sorted({**sources.get(kind, {}), **entries}.items()))
    content = {
        "schema": _SCHEMA,
        "note": "leads from pseudonyms to patients: keep it where only you can read it",
        "key_id": pseudonyms.key_id,
        **({"roots": sorted(roots)} if roots else {}),
        "sources": sources,
    }
    with writing(path, private=True) as temporary:
        temporary.write_bytes(as_json(content).encode("utf-8", errors="surrogateescape"))


def _renamed(record: ImageRecord, place: str, pseudonyms: Pseudonyms) -> ImageRecord:
    image_id = pseudonyms.number("image", place)
    return dataclasses.replace(
        record,
        image_id=image_id,
        file_name=f"{name_of_image(image_id)}.png",
        patient_id=pseudonyms.text("patient", record.patient_id),
        exam_id=pseudonyms.text("exam", record.exam_id),
        findings=tuple(
            _renamed_finding(finding, f"{place}#{number}", pseudonyms)
            for number, finding in enumerate(record.findings, start=1)
        ),
        attributes={
            name: _said(name, value, pseudonyms)
            for name, value in record.attributes.items()
            if name not in _LEFT_OUT
        },
    )


def _renamed_finding(finding: Finding, place: str, pseudonyms: Pseudonyms) -> Finding:
    lesion = finding.lesion_id
    return dataclasses.replace(
        finding,
        finding_id=pseudonyms.number("finding", place),
        lesion_id=None if lesion is None else pseudonyms.text("lesion", lesion),
    )


def _said(name: str, value: str, pseudonyms: Pseudonyms) -> str:
    """An attribute's value if it cannot identify anybody, else a code for it.

    Ages of 90 and more are all 90: so few women are that old that an age tells who it is (DICOM
    PS3.15 E, as the rules for research data of the United States, 45 CFR 164.514).
    """
    if name.casefold() == "age" and value.isdecimal() and len(value) <= len("999"):
        return str(min(int(value), _OLDEST))
    if name.casefold() == "sex" and value in _SEXES:
        return value
    if _PLAIN.fullmatch(value):
        return value
    for vendor, spelling in _VENDORS.items():
        if name == "manufacturer" and re.search(spelling, value, re.IGNORECASE):
            return vendor
    return pseudonyms.text(name, value)


def _read_key(path: Path) -> bytes:
    try:
        status, text = path.stat(), path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the key {path} cannot be read ({type(error).__name__})") from error
    if os.name == "posix" and (status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)):
        raise ConfigError(
            f"the key {path} can be read by others (mode {stat.S_IMODE(status.st_mode):o}): "
            f"whoever has it can test names against pseudonyms; `chmod 600 {path}`, or make a new "
            "key if somebody may have read it"
        )
    if os.name == "posix" and status.st_uid != os.getuid():
        raise ConfigError(f"the key {path} belongs to another user; give a key of your own")
    if not re.fullmatch(rf"[0-9a-f]{{{2 * _KEY_BYTES}}}", text):
        raise ConfigError(
            f"{path} is no key: that is {2 * _KEY_BYTES} hexadecimal digits; give another path, "
            "and a key is made there"
        )
    return bytes.fromhex(text)


def _read_id_map(path: Path, key_id: str | None = None) -> dict[str, Any]:
    """The content of an id map, by this key if one is given; nothing where there is no file."""
    if not path.exists():
        return {}
    try:
        content: Any = json.loads(path.read_bytes().decode("utf-8", errors="surrogateescape"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the id map {path} cannot be read ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
        raise ConfigError(f"{path} is no id map of this version; give another --id-map")
    if key_id is not None and content.get("key_id") != key_id:
        raise ConfigError(
            f"the id map {path} was made with another key: give that key (--key-file), or another "
            "--id-map"
        )
    return content


@dataclass(frozen=True)
class Source:
    """What a pseudonym stands for: its kind, the identifier, and the file of an image if known."""

    pseudonym: str
    kind: str
    identifier: str
    path: Path | None
    id_map: Path


def id_maps() -> list[Path]:
    """All id maps in the private folder."""
    return sorted((private_folder() / "id_maps").glob("*.json"))


def find_pseudonym(id_map: Path, pseudonym: str) -> list[Source]:
    """What a pseudonym stands for by one id map; nothing if it is not there.

    Args:
        id_map: A file of :func:`write_id_map`.
        pseudonym: As it stands in a file (`patient-...`, an image's number), or a picture's name.

    Raises:
        ConfigError: The file is no id map, or cannot be read.
    """
    if not id_map.exists():
        raise ConfigError(f"the id map {id_map} does not exist")
    content = _read_id_map(id_map)
    roots = [Path(root) for root in content.get("roots", ())]
    return [
        Source(name, kind, entries[name], _path_of(kind, entries[name], roots), id_map)
        for kind, entries in content["sources"].items()
        for name in dict.fromkeys(_spellings(pseudonym))
        if name in entries
    ]


def _spellings(pseudonym: str) -> list[str]:
    """As the map has it: a text, a picture's name without ending, or a number in hexadecimal."""
    stem = Path(pseudonym.strip()).name.partition(".")[0]
    numbers = [name_of_image(int(stem))] if stem.isascii() and stem.isdecimal() else []
    return [stem, *numbers]


def _path_of(kind: str, identifier: str, roots: Sequence[Path]) -> Path | None:
    """The file of an image: of several folders the one in which it is there."""
    if kind != "image":
        return None
    paths = [root / identifier for root in roots]
    there = [path for path in paths if path.exists()] or paths
    return there[0] if len(there) == 1 else None
