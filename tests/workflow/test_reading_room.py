"""`docs/reading_room.md`: its five commands and its configuration file work as they stand there."""

import json
import re
import shlex
import subprocess
import sys

import pydicom
import pytest

from benchmarks.dicom_validators import dciodvfy
from benchmarks.node_parts import wait_until
from simfrcnn.cli.main import main
from simfrcnn.service.health import problems_of
from simfrcnn.service.options import NodeOptions, read_options
from support.forking import start_program
from support.orthanc import SYSTEM_PATH, Orthanc, free_ports, is_up
from support.pages import block_of

PAGE = "docs/reading_room.md"


@pytest.mark.slow
@pytest.mark.torchvision
@pytest.mark.service("orthanc", "dcmtk", "dicom3tools")
@pytest.mark.skipif(sys.platform != "linux", reason="Debian's Orthanc")
def test_five_commands_bring_a_report_into_orthanc(untrained, tmp_path, monkeypatch):
    pytest.importorskip("highdicom")
    monkeypatch.chdir(tmp_path)
    ports = dict(zip(("8042", "4242", "11112"), map(str, free_ports(3)), strict=True))

    def here(text):
        for number, free in ports.items():
            text = re.sub(rf"\b{number}\b", free, text)
        return text.replace("cbis-mass", str(untrained))

    config = json.loads(here(block_of(PAGE, "json")))
    (tmp_path / "orthanc.json").write_text(
        json.dumps({**config, "HttpBindAddresses": ["127.0.0.1"]})
    )
    archive, phantoms, node, send, ask = here(block_of(PAGE, "bash")).splitlines()
    orthanc = Orthanc(int(ports["8042"]), int(ports["4242"]))
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(
            shlex.split(archive.removesuffix("&")),
            stdout=log,
            stderr=log,
            env={"PATH": SYSTEM_PATH},
        )
    try:
        assert main(shlex.split(phantoms)[1:]) == 0
        assert wait_until(lambda: is_up(orthanc))
        words = shlex.split(node.removesuffix("&"))
        program = start_program(["-m", *words], cwd=tmp_path, logs=tmp_path)
        stdout = tmp_path / "stdout"
        assert wait_until(lambda: stdout.exists() and "listens" in stdout.read_text(), 120), (
            tmp_path / "stderr"
        ).read_text()
        subprocess.run(send, shell=True, check=True, env={"PATH": SYSTEM_PATH})
        assert wait_until(lambda: orthanc.files("SR"), 120), stdout.read_text()
        found = subprocess.run(ask, shell=True, check=True, capture_output=True)
        assert wait_until((tmp_path / "node" / "health.json").exists)
        assert problems_of(tmp_path / "node") == []
        program.terminate()  # SIGTERM: a clean end
        program.join(60)
        assert program.exitcode == 0
    finally:
        server.terminate()
        server.wait(30)
    (entry,) = json.loads(found.stdout)
    (path,) = (tmp_path / "node").glob("studies/*/results/**/*.dcm")
    report = pydicom.dcmread(path)
    assert entry["00080018"]["Value"] == [report.SOPInstanceUID]
    assert report.PatientID == "PHANTOM-000001"
    assert dciodvfy(path) == []


def test_the_configuration_file_is_legal(tmp_path):
    (tmp_path / "node.yaml").write_text(block_of(PAGE, "yaml"))
    options = read_options(NodeOptions, {}, tmp_path / "node.yaml")
    assert options.to == ("PACS@pacs.example:104", "https://pacs.example/dicom-web")
    assert options.allow_ae == ("MAMMO_1", "MAMMO_2")
