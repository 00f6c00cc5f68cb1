"""STOW-RS to a server that refuses in every way: what a log may say, and where the token goes."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.node_parts import quick_judge, write_film
from simfrcnn.errors import ConfigError
from simfrcnn.service.options import NodeOptions, PullOptions
from simfrcnn.service.pull import run_pull
from simfrcnn.service.sending import STOW_TOKEN, TOKEN, SendingError, targets_of, token_for


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


def test_a_token_goes_to_one_origin(monkeypatch):
    monkeypatch.setenv(TOKEN, "of-source")
    monkeypatch.setenv(STOW_TOKEN, "of-target")
    to = ("https://target/dw", "https://other/dw")
    options = PullOptions(source="https://source/dw", to=to)
    asked = ("https://SOURCE:443/else", *to, "https://source:8443/dw", "http://source/dw")
    tokens = [token_for(url, options) for url in asked]
    assert tokens == ["of-source", "of-target", None, None, None]
    monkeypatch.delenv(STOW_TOKEN)
    assert token_for("https://target/dw", options) is None
    node = NodeOptions(to=("PACS@pacs:104", *to))
    assert [token_for(url, node) for url in to] == ["of-source", None]
    back = PullOptions(source="https://source/dw", to=("https://source/dw",))
    assert token_for("https://source/dw", back) == "of-source"


def test_a_token_does_not_go_over_plain_http(monkeypatch):
    monkeypatch.setenv(TOKEN, "hush-hush")
    with pytest.raises(ConfigError, match="https://") as caught:
        targets_of(NodeOptions(to=("http://pacs.example/dicom-web",)))
    assert "hush" not in str(caught.value)
    options = PullOptions(folder="x", source="http://pacs.example/dw", since="2026-01-01")
    with pytest.raises(ConfigError, match="plain HTTP"):
        run_pull(options, judge=quick_judge())
    assert token_for("http://[::1]/dw", NodeOptions(to=("http://[::1]/dw",))) == "hush-hush"


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
