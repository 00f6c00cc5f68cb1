"""`simfrcnn serve` as a command: what its page of documentation shows, and what it refuses."""

import json
import os
import re
import signal
import stat
import subprocess
import time

import pydicom
import pytest

from simfrcnn.cli.main import main
from simfrcnn.errors import ConfigError
from simfrcnn.service.web import import_uvicorn
from simfrcnn.service.web_settings import TOKEN_VARIABLE, ServeOptions, is_loopback, token_of
from support.forking import start_program
from support.pages import block_of
from support.studies import write_study

TOKEN = "0123456789abcdef"


@pytest.mark.slow
@pytest.mark.torchvision
def test_the_lines_of_the_page_run(tmp_path, untrained):
    lines = block_of("docs/serve.md", "sh")
    words = ["-m", "simfrcnn", "serve", "--weights", untrained, "--folder", "studies"]
    write_study(tmp_path, 0, n_views=2)
    (tmp_path / "study0").rename(tmp_path / "films")
    process = start_program([*words, "--port", "0"], cwd=tmp_path, logs=tmp_path)
    try:
        port = port_in(tmp_path / "stdout")
        done = subprocess.run(
            ["bash", "-euc", lines.replace("8080", port)],
            cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.join(30)
    assert process.exitcode is not None
    exam = json.loads((tmp_path / "exam.json").read_text())
    assert len(exam["images"]) == 2
    assert pydicom.dcmread(tmp_path / "cad-sr.dcm").SOPClassUID.endswith("88.50")
    assert '"state":"done"' in done.stdout
    results = tmp_path / "studies" / "results"
    assert (results / "index.csv").read_text().count("\n") == 2
    printed = "".join((tmp_path / name).read_text() for name in ("stdout", "stderr"))
    assert "POST /studies 202" in printed
    assert "1.2.3.0" not in printed
    assert "P0" not in printed
    # Another model must not write into these results.
    other = ["serve", "--weights", "cbis-mass", "--folder", str(tmp_path / "studies")]
    assert main([*other, "--port", "0", "--device", "cpu"]) == 2


def port_in(stdout):
    """The port that the server says it is at."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        printed = stdout.read_text() if stdout.exists() else ""  # the process is about to begin
        if found := re.search(r"simfrcnn is at http://127.0.0.1:(\d+)", printed):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(stdout.read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "x.pth"], "give --weights and --folder"),
        (["--port", "70000"], r"--port is 70000; legal is a number in \[0, 65535\]"),
        (["--queue", "0"], "--queue is 0"),
        (["--address", "0.0.0.0"], "give a token"),
        (["--address", "no.such.host.invalid"], "give a token"),
        (["--token-file", "none"], "cannot be read"),
    ],
)
def test_what_is_refused(refused, tmp_path, monkeypatch, words, message):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    given = [] if "--weights" in words else ["--weights", "x.pth", "--folder", tmp_path / "f"]
    assert re.search(message, refused("serve", *given, *words))
    assert not (tmp_path / "f").exists()


def test_an_address_in_use(refused, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["--weights", "x.pth", "--folder", tmp_path, "--port", port]
        assert "give another --port" in refused("serve", *words)


def test_tokens(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    assert token_of(ServeOptions(token_file=file)) == TOKEN.encode()
    assert token_of(ServeOptions()) is None
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert token_of(ServeOptions(address="0.0.0.0")) == TOKEN.encode()
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    with pytest.raises(ConfigError, match="at least 16"):
        token_of(ServeOptions())
    file.chmod(0o600 | stat.S_IRGRP)
    with pytest.raises(ConfigError, match="others can read it"):
        token_of(ServeOptions(token_file=file))
    file.chmod(0o600)
    file.write_text("")
    with pytest.raises(ConfigError, match="at least 16"):
        token_of(ServeOptions(token_file=file))


def test_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "python_multipart", None)
    with pytest.raises(ConfigError, match=r"python-multipart.*simfrcnn\[serve\]"):
        import_uvicorn()
