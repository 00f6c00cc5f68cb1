"""The container: its files are read and checked, and its entry is executed; no Docker is needed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from simfrcnn.service.web_settings import MIN_TOKEN_LENGTH, TOKEN_VARIABLE

ROOT = Path(__file__).parent.parent
ENTRY = ROOT / "tools" / "container_entry.sh"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def instructions() -> list[tuple[str, str]]:
    """(INSTRUCTION, its words) of the Dockerfile, in order; continued lines are one."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = text.replace("\\\n", " ").splitlines()
    return [(w, rest.strip()) for w, _, rest in (line.partition(" ") for line in joined) if w]


def of(instruction: str) -> list[str]:
    return [rest for word, rest in instructions() if word == instruction]


def test_it_does_not_run_as_root_and_nothing_after_that_changes_it() -> None:
    words = [word for word, _ in instructions()]
    (user,) = of("USER")
    assert user == "10001:10001"
    assert not {"RUN", "COPY", "ADD"} & set(words[words.index("USER") :])


def test_its_base_is_pinned_and_what_apt_leaves_is_removed() -> None:
    for base in of("FROM"):
        assert re.match(r"[\w/.-]+:[\w.-]+( AS \w+)?$", base)
        assert ":latest" not in base
    for command in of("RUN"):
        if "apt-get install" in command:
            assert "--no-install-recommends" in command
            assert command.endswith("rm -rf /var/lib/apt/lists/*")
        if "pip install" in command:
            assert "--no-cache-dir" in command
    assert of("ADD") == []
    assert not any(re.search(r"\b(sudo|curl|wget)\b", command) for command in of("RUN"))


def test_it_has_an_entry_and_a_health_check_in_words_not_in_a_shell() -> None:
    (entry,) = of("ENTRYPOINT")
    (health,) = of("HEALTHCHECK")
    assert yaml.safe_load(entry) == ["container-entry"]
    assert yaml.safe_load(health.partition("CMD ")[2]) == ["simfrcnn", "node", "--health", "/data"]
    assert {"--interval", "--timeout", "--start-period", "--retries"} == set(
        re.findall(r"--(?:interval|timeout|start-period|retries)", health)
    )


def test_what_it_copies_is_there_and_sent_to_the_builder() -> None:
    sent = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = set()
    for rest in of("COPY"):
        *sources, _ = [word for word in shlex.split(rest) if not word.startswith("--")]
        if "--from=" not in rest:
            copied |= set(sources)
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)


def test_each_service_is_bound_to_this_machine_and_may_do_little() -> None:
    for name, service in COMPOSE["services"].items():
        assert not service.get("privileged"), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        if "image" in service:
            assert re.search(r":\d[\w.]*$", service["image"]), name
        else:
            assert service["build"] == "."
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert "/data" in shlex.split(service["command"])
    assert "--allow-ae" in COMPOSE["services"]["node"]["command"]
    assert "--address 0.0.0.0" in COMPOSE["services"]["serve"]["command"]
    used = {v.partition(":")[0] for s in COMPOSE["services"].values() for v in s["volumes"]}
    assert used == set(COMPOSE["volumes"])


def test_serve_gets_its_token_from_the_environment_and_spools_on_its_volume() -> None:
    serve = COMPOSE["services"]["serve"]
    # A secret of a file keeps the owner and mode of the host: user 10001 could not read it.
    assert "secrets" not in serve
    assert "secrets" not in COMPOSE
    token = serve["environment"][TOKEN_VARIABLE]
    assert token.startswith(f"${{{TOKEN_VARIABLE}:?")  # compose ends where it is not set
    assert f"at least {MIN_TOKEN_LENGTH} characters" in token
    (volume,) = serve["volumes"]
    spool = Path(serve["environment"]["TMPDIR"])
    assert spool.is_relative_to(volume.partition(":")[2])
    assert not any(spool.is_relative_to(folder) for folder in serve["tmpfs"])


# -- the entry -------------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run the entry with a program `simfrcnn` that notes its words and writes two results."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "simfrcnn"
    program.write_text(
        f"""#!/bin/sh
printf '%s\\n' "$@" > {tmp_path}/words
out=$(printf '%s\\n' "$@" | sed -n '/^--output$/{{n;p}}')
if [ -n "$out" ] && [ -z "${{NONE:-}}" ]; then
    mkdir -p "$out/dicom/ab/exam" && echo x > "$out/dicom/ab/exam/sr.dcm"
    mkdir -p "$out/dicom/cd/other" && echo y > "$out/dicom/cd/other/sr.dcm"
fi
exit ${{CODE:-0}}
"""
    )
    program.chmod(0o755)

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{programs}:{os.environ['PATH']}", **variables}
        return subprocess.run(
            ["sh", str(ENTRY), *words], env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_words_go_to_simfrcnn_as_they_are(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = start("predict", "a folder", "--weights", "$w", CODE="3", MERCURE_IN_DIR="/in")
    assert done.returncode == 3
    assert (tmp_path / "words").read_text().splitlines() == [
        *("predict", "a folder", "--weights", "$w"),
    ]
    assert start().returncode == 0


@pytest.mark.parametrize("code", ["0", "3"])
def test_mercure_s_folders_are_judged(start, tmp_path: Path, code: str) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "results of mercure"
    out.mkdir()
    variables = {"MERCURE_IN_DIR": "/in", "MERCURE_OUT_DIR": str(out), "TMPDIR": str(tmp_path)}
    done = start(**variables, SIMFRCNN_WEIGHTS="cbis-mass", CODE=code)
    assert (done.returncode, done.stderr) == (0, "")
    words = (tmp_path / "words").read_text().splitlines()
    assert words[:4] == ["predict", "/in", "--weights", "cbis-mass"]
    assert {"--keep-identifiers", "--dicom", "sr"} <= set(words)
    assert sorted(path.name for path in out.iterdir()) == ["exam_sr.dcm", "other_sr.dcm"]
    assert not list(tmp_path.glob("tmp.*"))  # nothing of a patient is left behind


def test_mercure_is_told_what_is_missing_and_what_failed(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    inside = {"MERCURE_IN_DIR": "/in"}
    assert "MERCURE_OUT_DIR" in start(**inside).stderr
    inside |= {"MERCURE_OUT_DIR": str(tmp_path / "out")}
    (tmp_path / "out").mkdir()
    assert "SIMFRCNN_WEIGHTS" in start(**inside).stderr
    assert start(**inside, SIMFRCNN_WEIGHTS="x", CODE="2").returncode == 2
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("broken", ["ab", "cd"])
def test_a_result_that_cannot_be_given_is_a_failure(start, tmp_path: Path, broken: str) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "results"
    out.mkdir()
    copy = tmp_path / "bin" / "cp"
    copy.write_text(f'#!/bin/sh\ncase "$1" in */{broken}/*) exit 1;; esac\nexec /bin/cp "$@"\n')
    copy.chmod(0o755)
    variables = {"MERCURE_IN_DIR": "/in", "MERCURE_OUT_DIR": str(out), "TMPDIR": str(tmp_path)}
    assert start(**variables, SIMFRCNN_WEIGHTS="cbis-mass").returncode != 0


def test_no_result_is_no_success(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    variables = {"MERCURE_IN_DIR": "/in", "MERCURE_OUT_DIR": str(tmp_path), "NONE": "1"}
    done = start(**variables, SIMFRCNN_WEIGHTS="cbis-mass", CODE="3", TMPDIR=str(tmp_path))
    assert (done.returncode, "no result" in done.stderr) == (3, True)
