"""What one request may cost `serve`: packed bytes, space on the disk, places in the queue, time."""

import errno
import io
import shutil
import tempfile
import tracemalloc
import zipfile

import pytest
from starlette.testclient import TestClient

from simfrcnn.service.web_refusals import Refusal
from simfrcnn.service.web_uploads import Bounds, receive
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
