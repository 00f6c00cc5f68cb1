"""What one request may cost `serve`: packed bytes, space on the disk, places in the queue, time."""

import errno
import io
import shutil
import tempfile
import threading
import tracemalloc
import zipfile

import pytest
from starlette.testclient import TestClient

from simfrcnn.errors import ConfigError
from simfrcnn.service.web import serve
from simfrcnn.service.web_refusals import Refusal
from simfrcnn.service.web_settings import ServeOptions
from simfrcnn.service.web_uploads import Bounds, receive
from support.studies import write_study
from support.web import app_of, studies_in

MB = 10**6


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_file_that_cannot_be_counted_as_it_inflates_is_refused(tmp_path, kind):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", kind) as archive:
        archive.writestr("a", bytes(128) + b"DICM" + bytes(40 * MB))
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as caught:
            receive(tmp_path, [packed], Bounds(MB, 5))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (caught.value.status, caught.value.error) == (
        400,
        "a zip file is of an unknown compression",
    )
    assert peak < 2 * MB
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def client(tmp_path):
    with studies_in(tmp_path / "folder") as studies:
        yield TestClient(app_of(studies), base_url="http://127.0.0.1")


def sent(client, content=b"x"):
    return client.post("/studies", files={"files": ("a", content)})


def test_a_fault_is_answered_in_the_form_of_every_refusal(client, monkeypatch, caplog):
    def fails(*_):
        raise KeyError("Doe^Jane")

    monkeypatch.setattr("simfrcnn.service.web_app.receive", fails)
    response = sent(client)
    assert response.status_code == 500
    assert list(response.json()) == ["error", "legal", "remedy"]
    assert "a fault of simfrcnn" in response.json()["error"]
    assert response.headers["cache-control"] == "no-store"
    assert "unexpected KeyError" in caplog.text
    assert "Doe" not in caplog.text + response.text


def test_temporary_files_on_a_full_disk_are_said_to_be(client, monkeypatch):
    class Full(io.BytesIO):
        _rolled = True

        def __init__(self, max_size):
            super().__init__()

        def write(self, _):
            raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", Full)
    response = sent(client)
    assert response.status_code == 507
    assert "TMPDIR" in response.json()["remedy"]


def test_a_body_that_temporary_files_have_no_room_for_is_not_read(client, monkeypatch):
    usage = shutil.disk_usage

    def nearly_full(path):
        full = usage(path)
        return full._replace(free=1000) if path == tempfile.gettempdir() else full

    monkeypatch.setattr("simfrcnn.service.web_uploads.shutil.disk_usage", nearly_full)
    assert sent(client).status_code == 422  # it is small, and no image
    assert sent(client, bytes(1000)).status_code == 507


def test_an_upload_of_more_studies_than_there_is_room_for_is_refused_whole(tmp_path):
    go_on = threading.Event()
    films = [write_study(tmp_path / "other", n, n_views=1)[0].read_bytes() for n in range(4)]

    def upload(*contents):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for number, content in enumerate(contents):
                archive.writestr(f"{number}", content)
        return sent(client, packed.getvalue())

    def waits(_):
        go_on.wait(20)

    (tmp_path / "f").mkdir()
    with studies_in(tmp_path / "f", waits, n_waiting=3) as studies:
        client = TestClient(app_of(studies), base_url="http://127.0.0.1")
        assert upload(*films).status_code == 413
        assert list(studies.uploads.iterdir()) == []
        assert len(upload(*films[:2]).json()["studies"]) == 2
        response = upload(*films[2:])
        assert response.status_code == 503
        assert response.json()["error"].startswith("2 studies are waiting, and there is no room")
        assert "retry-after" in response.headers
        assert len(list(studies.uploads.iterdir())) == 1
        assert upload(films[2]).status_code == 202  # there is room for one
        assert studies.n_waiting == 3
        go_on.set()


def test_nobody_waits_while_the_folder_is_looked_through(tmp_path, monkeypatch):
    write_study(tmp_path / "f", 0, n_views=1)
    begun, go_on = threading.Event(), threading.Event()
    with studies_in(tmp_path / "f") as studies:
        (study,) = studies.listed()
        found = studies._found

        def slow():
            begun.set()
            assert go_on.wait(20)
            yield from found()

        monkeypatch.setattr(studies, "_found", slow)
        write_study(tmp_path / "f", 1, n_views=1)
        looking = threading.Thread(target=lambda: studies.look_again(at_once=True))
        looking.start()
        assert begun.wait(20)
        asked = []
        asking = threading.Thread(
            target=lambda: asked.extend([studies.n_waiting, studies.study(study.id)]), daemon=True
        )
        asking.start()
        asking.join(10)
        go_on.set()
        looking.join(20)
        assert asked == [0, study]
        assert len(studies.listed()) == 2


@pytest.mark.parametrize(
    ("folder", "message"), [("file", "is a file"), ("no/studies", "no does not exist; give")]
)
def test_a_folder_that_cannot_be_meant_is_refused_and_not_made(tmp_path, folder, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=message):
        serve(ServeOptions(weights="cbis-mass", folder=tmp_path / folder))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
