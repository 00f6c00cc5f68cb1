"""Pseudonyms, their key and the map that leads back."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from pathlib import Path

import pytest

from simfrcnn.data.pseudonyms import (
    Pseudonyms,
    default_id_map,
    merge_id_maps,
    name_of_image,
    private_folder,
    pseudonymised,
    read_or_make_key,
    require_outside,
    write_id_map,
)
from simfrcnn.errors import ConfigError, DataError
from simfrcnn.records import ImageRecord
from support.data_examples import make_finding, make_record

KEY = bytes(range(32))


def below_root(path: Path) -> Path:
    return path.relative_to("/root")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def record(name: str, patient: str = "Doe", **attributes: str) -> ImageRecord:
    return make_record(
        1,
        make_finding(lesion_id=f"{patient} left"),
        make_finding(finding_id=2, lesion_id=None),
        patient=patient,
        path=Path("/root") / name,
        attributes=attributes,
    )


def test_a_pseudonym_is_the_keyed_hash_of_kind_and_identifier() -> None:
    expected = hmac.new(KEY, b"patient\0Doe^Jane", hashlib.sha256).hexdigest()
    pseudonyms = Pseudonyms(KEY)
    assert pseudonyms.text("patient", "Doe^Jane") == f"patient-{expected[:16]}"
    assert pseudonyms.text("exam", "Doe^Jane")[5:] != expected[:16]
    assert Pseudonyms(KEY[::-1]).text("patient", "Doe^Jane") != f"patient-{expected[:16]}"
    assert pseudonyms.sources()["patient"] == {f"patient-{expected[:16]}": "Doe^Jane"}


def test_a_number_fits_every_reader_of_json() -> None:
    numbers = {Pseudonyms(KEY).number("image", str(n)) for n in range(1000)}
    assert len(numbers) == 1000
    assert 2**48 < max(numbers) < 2**52
    assert name_of_image(17) == "0000000000011"


def test_a_collision_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pseudonyms, "_digest", lambda *_: "a" * 64)
    pseudonyms = Pseudonyms(KEY)
    assert pseudonyms.text("patient", "one") == pseudonyms.text("patient", "one")
    with pytest.raises(DataError, match=r"two identifiers of kind patient .*--key-file"):
        pseudonyms.text("patient", "two")
    pseudonyms.number("image", "one")
    with pytest.raises(DataError, match="kind image"):
        pseudonyms.number("image", "two")


def test_records_lose_every_identifier_and_keep_what_they_share() -> None:
    ours = [record("Doe/a.dcm"), record("Doe/b.dcm"), record("Roe/c.dcm", "Roe")]
    renamed = pseudonymised(ours, Pseudonyms(KEY), below_root)
    by_path = {each.path.name: each for each in renamed}
    a, b, c = (by_path[name] for name in ("a.dcm", "b.dcm", "c.dcm"))
    assert a.patient_id == b.patient_id != c.patient_id
    assert a.exam_id == b.exam_id != c.exam_id
    assert a.findings[0].lesion_id == b.findings[0].lesion_id != c.findings[0].lesion_id
    assert a.findings[1].lesion_id is None
    assert len({finding.finding_id for each in renamed for finding in each.findings}) == 6
    texts = [text for each in renamed for text in (each.file_name, each.patient_id, each.exam_id)]
    texts += [str(finding.lesion_id) for each in renamed for finding in each.findings]
    assert not [text for text in texts if "doe" in text.lower() or "roe" in text.lower()]
    assert a.file_name == f"{name_of_image(a.image_id)}.png"
    assert a.findings[0].box == ours[0].findings[0].box


def test_the_order_and_other_images_do_not_matter() -> None:
    names = [f"{letter}.png" for letter in "abcdefgh"]
    ours = [record(name) for name in names]
    renamed = pseudonymised(ours, Pseudonyms(KEY), below_root)
    assert pseudonymised(ours[::-1], Pseudonyms(KEY), below_root) == renamed
    fewer = pseudonymised(ours[2:], Pseudonyms(KEY), below_root)
    assert len(fewer) == 6
    assert all(each in renamed for each in fewer)
    assert [each.path.name for each in renamed] != names


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("density", "b", "b"),
        ("age", "57", "57"),
        ("age", "89", "89"),
        ("age", "90", "90"),
        ("age", "103", "90"),
        ("Age", "103", "90"),
        ("sex", "F", "F"),
        ("sex", "Jane", None),
        ("birads", "4a", "4a"),
        ("manufacturer", "HOLOGIC, Inc.", "Hologic"),
        ("manufacturer", "GE MEDICAL SYSTEMS", "GE"),
        ("manufacturer", "Doe Imaging", None),
        ("density", "Hologic", None),
        ("age", "19570312", None),
        ("model", "Jane", None),
    ],
)
def test_attributes_keep_what_cannot_identify(name: str, value: str, kept: str | None) -> None:
    pseudonyms = Pseudonyms(KEY)
    (renamed,) = pseudonymised([record("a.png", **{name: value})], pseudonyms, below_root)
    assert renamed.attributes[name] == (kept or pseudonyms.text(name, value))
    assert kept or value not in renamed.attributes[name]


def test_free_words_are_left_out() -> None:
    (renamed,) = pseudonymised([record("a.png", notes="Jane")], Pseudonyms(KEY), below_root)
    assert renamed.attributes == {}


def test_a_new_key_is_random_private_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    key, is_new = read_or_make_key(path)
    assert (len(key), is_new) == (32, True)
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == 0o700
    assert read_or_make_key(path) == (key, False)
    assert read_or_make_key(tmp_path / "other")[0] != key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    read_or_make_key(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"read by others \(mode {mode:o}\).*chmod 600"):
        read_or_make_key(path)


def test_other_files_are_no_key(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    for content in (b"", b"0123", b"\xff" * 64, b"g" * 64):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match=r"notes (is no key|cannot be read)"):
            read_or_make_key(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_or_make_key(tmp_path)


def test_private_files_lie_in_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert private_folder() == tmp_path / "simfrcnn"
    one, two = default_id_map("folder", tmp_path / "a"), default_id_map("folder", tmp_path / "b")
    assert one != two
    assert one.parent == tmp_path / "simfrcnn" / "id_maps"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert private_folder() == tmp_path / ".local" / "state" / "simfrcnn"


def test_private_files_must_lie_outside_also_by_links(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "link").symlink_to(out)
    for inside in (out / "key", out / "deep" / "key", tmp_path / "link" / "key"):
        with pytest.raises(ConfigError, match=r"--key-file .* lies inside the output folder"):
            require_outside(inside, out, "--key-file")
    require_outside(tmp_path / "outer" / "key", out, "--key-file")


def test_the_id_map_leads_back_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "maps" / "map.json"
    first, second = Pseudonyms(KEY), Pseudonyms(KEY)
    (one,) = pseudonymised([record("Doe/a.dcm")], first, below_root)
    write_id_map(path, first)
    assert mode_of(path) == 0o600
    (two,) = pseudonymised([record("Roe/b.dcm", "Roe")], second, below_root)
    path.chmod(0o644)
    write_id_map(path, second)
    assert mode_of(path) == 0o600
    content = json.loads(path.read_text())
    assert content["sources"]["patient"] == {one.patient_id: "Doe", two.patient_id: "Roe"}
    assert content["sources"]["image"] == {
        name_of_image(one.image_id): "Doe/a.dcm",
        name_of_image(two.image_id): "Roe/b.dcm",
    }
    assert KEY.hex() not in path.read_text()


def test_id_maps_become_one(tmp_path: Path) -> None:
    maps = [tmp_path / "1.json", tmp_path / "2.json"]
    names = {}
    for path, patient in zip(maps, ("Doe", "Roe"), strict=True):
        pseudonyms = Pseudonyms(KEY)
        names[pseudonyms.text("patient", patient)] = patient
        write_id_map(path, pseudonyms, tmp_path / patient)
    whole = tmp_path / "all.json"
    for _ in range(2):
        merge_id_maps(whole, maps, Pseudonyms(KEY))
    content = json.loads(whole.read_text())
    assert content["sources"]["patient"] == names
    assert content["roots"] == [str(tmp_path / "Doe"), str(tmp_path / "Roe")]
    assert mode_of(whole) == 0o600
    with pytest.raises(ConfigError, match="another key"):
        merge_id_maps(whole, maps, Pseudonyms(bytes(32)))


def test_identifiers_of_any_bytes(tmp_path: Path) -> None:
    strange = os.fsdecode(b"Do\xe9")
    pseudonyms = Pseudonyms(KEY)
    pseudonyms.text("patient", strange)
    for _ in range(2):
        write_id_map(tmp_path / "map.json", pseudonyms)
    (name,) = json.loads((tmp_path / "map.json").read_bytes())["sources"]["patient"].values()
    assert os.fsencode(name) == b"Do\xe9"


def test_an_id_map_of_another_key_or_kind_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    write_id_map(path, Pseudonyms(KEY))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"made with another key.*--key-file"):
        write_id_map(path, Pseudonyms(KEY[::-1]))
    assert path.read_bytes() == before
    for content in ("{}", "[]", "not JSON"):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"map\.json (is no id map|cannot be read)"):
            write_id_map(path, Pseudonyms(KEY))
