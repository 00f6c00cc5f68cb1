"""A real archive on loopback: Debian's Orthanc with its DICOMweb plugin, in a folder of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.node_parts import wait_until

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin"
"""Without the programs of a virtual environment."""
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Orthanc:
    """One that runs."""

    http_port: int
    dicom_port: int

    @property
    def target(self) -> str:
        """For C-STORE."""
        return f"ORTHANC@127.0.0.1:{self.dicom_port}"

    @property
    def web(self) -> str:
        """Its DICOMweb root."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def get(self, path: str) -> Any:
        """The answer of its REST API: JSON, or a file."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}") as answer:
            content = answer.read()
        return content if path.endswith("/file") else json.loads(content)

    def post(self, path: str, content: bytes) -> Any:
        """Send something to its REST API."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", content)
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    def files(self, modality: str) -> list[bytes]:
        """All instances of a modality, as it would give them to others."""
        found = []
        for series in self.get("/series"):
            entry = self.get(f"/series/{series}")
            if entry["MainDicomTags"]["Modality"] == modality:
                found += [self.get(f"/instances/{one}/file") for one in entry["Instances"]]
        return found


def free_ports(n: int) -> list[int]:
    """Ports of loopback that nobody has at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def config_of(folder: Path, http_port: int, dicom_port: int) -> dict[str, Any]:
    """The configuration of an archive that takes everything, on loopback alone."""
    return {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http_port,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True},
    }


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """An empty Orthanc, until the block ends."""
    http_port, dicom_port = free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config_of(folder, http_port, dicom_port)))
    orthanc = Orthanc(http_port, dicom_port)
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(["Orthanc", str(path)], stdout=log, stderr=log)
    try:
        assert wait_until(lambda: is_up(orthanc) or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield orthanc
    finally:
        process.terminate()
        process.wait(30)


def is_up(orthanc: Orthanc) -> bool:
    """Whether it answers."""
    try:
        return "Version" in orthanc.get("/system")
    except OSError:
        return False
