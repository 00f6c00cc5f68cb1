"""A source that sends too much, or what inflates: the study is not read, and nothing is kept."""

import io
import json
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from benchmarks.node_parts import quick_judge, write_film
from simfrcnn.service import answers
from simfrcnn.service.options import PullOptions
from simfrcnn.service.pull import run_pull
from simfrcnn.service.sending import SendingError

_FILM = ("0020000E", "00080018", "00080016")


@pytest.fixture
def film(tmp_path):
    write_film(tmp_path / "film.dcm", 1, 1)
    return tmp_path / "film.dcm"


@pytest.fixture
def source(film):
    """An archive of one study of one film; its ``body`` is what it sends as the film's parts."""
    header = dcmread(film)
    study = {"0020000D": {"vr": "UI", "Value": [header.StudyInstanceUID]}}
    values = (header.SeriesInstanceUID, header.SOPInstanceUID, header.SOPClassUID)
    entry = {tag: {"vr": "UI", "Value": [uid]} for tag, uid in zip(_FILM, values, strict=True)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path, _, query = self.path.partition("?")
            if path.endswith("/studies"):
                self._send([] if "offset=1" in query else [study])
            elif path.endswith("/instances"):
                is_over = self.server.pages and "offset=1" in query
                self._send([] if is_over else [entry])
            else:
                self._stream()

        def do_POST(self):  # of the results, which go back to the source
            self.rfile.read(int(self.headers["Content-Length"]))
            self._send({})

        def _send(self, content):
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/related; boundary=x")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for chunk in self.server.body():
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                    self.server.n_sent += len(chunk)
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                self.close_connection = True

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.n_sent, server.pages = 0, True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def parts(content):
    yield b"--x\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--x--"


def pulled(source, folder):
    url = f"http://127.0.0.1:{source.server_address[1]}/dw"
    options = PullOptions(folder=folder, source=url, since="2000-01-01", send_timeout=20)
    return run_pull(options, judge=quick_judge())


def test_a_film_of_the_source_is_judged(source, film, tmp_path):
    source.body = lambda: parts(film.read_bytes())
    result = pulled(source, tmp_path / "work")
    assert (result.n_found, result.n_done, result.n_not_read) == (1, 1, 0)


def test_a_source_that_never_ends_its_list_of_images_ends_the_pull(source, film, tmp_path):
    source.body = lambda: parts(film.read_bytes())
    source.pages = False
    with pytest.raises(SendingError, match="the same images of a study whatever the offset"):
        pulled(source, tmp_path / "work")
    assert source.n_sent == 0


def test_an_answer_without_an_end_is_cut(source, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(answers, "MAX_FILE_BYTES", 2_000_000)
    source.body = lambda: iter(lambda: b"0" * 100_000, b"")
    result = pulled(source, tmp_path / "work")
    assert (result.n_found, result.n_done, result.n_not_read) == (1, 0, 1)
    assert "an answer of more than 2,000,000 bytes" in caplog.text
    assert source.n_sent < 20_000_000


def test_a_deflated_data_set_is_not_inflated(source, film, tmp_path, caplog):
    data = dcmread(film)
    data.Rows, data.Columns = 16_384, 16_384
    data.PixelData = np.zeros(2**28, np.uint8).tobytes()
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    source.body = lambda: parts(stream.getvalue())
    del data
    tracemalloc.start()
    result = pulled(source, tmp_path / "work")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (result.n_found, result.n_done, result.n_not_read) == (1, 0, 1)
    assert "a Deflated data set, which is not read over DICOMweb" in caplog.text
    assert len(stream.getvalue()) < 1_000_000
    assert peak < 50_000_000
    assert not list((tmp_path / "work").rglob("*.dcm"))
