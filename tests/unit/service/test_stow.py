"""STOW-RS to a server that refuses in every way: what a log may say, and where the token goes."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.node_parts import quick_judge, write_film
from simfrcnn.service.options import NodeOptions
from simfrcnn.service.sending import TOKEN, SendingError, targets_of


@pytest.fixture
def server():
    """A server that answers as its ``reply`` says, and keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.asked.append((self.path, self.headers.get("Authorization")))
            status, content = self.server.reply
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.reply = [], (200, {})
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def result(tmp_path):
    write_film(tmp_path / "films" / "1.dcm", 1, 1)
    judged = quick_judge()(tmp_path / "films", tmp_path / "out")
    return tmp_path / "out" / judged.files[0]


def target_of(server):
    url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    (target,) = targets_of(NodeOptions(to=(url,), send_timeout=5))
    return target


def test_the_token_of_the_environment_goes_to_the_server(server, result, monkeypatch):
    kept = []
    target_of(server).send(result, lambda: kept.append(1))
    monkeypatch.setenv(TOKEN, "hush-hush")
    target_of(server).send(result, lambda: kept.append(2))
    assert server.asked == [
        ("/dicom-web/studies", None),
        ("/dicom-web/studies", "Bearer hush-hush"),
    ]
    assert kept == [1, 2]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ((401, {}), "HTTP status 401"),
        ((409, {}), "HTTP status 409"),
        ((503, {}), "HTTP status 503"),
        (
            (
                202,
                {
                    "00081198": {
                        "vr": "SQ",
                        "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}],
                    }
                },
            ),
            "STOW-RS failure reason A700",
        ),
    ],
)
def test_a_refusal_is_named_and_nothing_is_noted_as_kept(server, result, reply, code):
    server.reply = reply
    with pytest.raises(SendingError) as caught:
        target_of(server).send(result, lambda: pytest.fail("not kept"))
    assert caught.value.code == code
    assert len(server.asked) == 1  # the node's queue tries again, not the library
