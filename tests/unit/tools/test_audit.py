"""`make audit`: weaknesses are listed; a service that does not answer is no clean bill."""

import json
import subprocess

import audit
import pytest

WEAK = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
GOOD = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "told"),
    [
        ([GOOD], 0, "packages asked about: 1; with a known weakness: 0"),
        (
            [GOOD, WEAK, SKIPPED],
            1,
            "b 2: CVE-1, mended in 2.1\nnot asked about: c\npackages asked about: 2",
        ),
        ([SKIPPED], 3, "answers for no package"),
        (None, 3, "cannot be reached, nothing is known: no route"),
    ],
)
def test_the_exit_code_says_whether_anything_is_known(packages, code, told, monkeypatch, capsys):
    printed = "" if packages is None else json.dumps({"dependencies": packages})
    done = subprocess.CompletedProcess([], 1, printed, "error\nno route\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert audit.main() == code
    captured = capsys.readouterr()
    assert told in captured.out + captured.err
