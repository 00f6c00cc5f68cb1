"""Are known weaknesses in the packages that are installed here? What `make audit` runs.

It asks the advisory service of pip-audit. Exit code 0: none is known; 1: some are, and are listed;
3: the service cannot be reached, so that nothing is known.
"""

from __future__ import annotations

import json
import subprocess
import sys

UNREACHABLE = 3


def main() -> int:
    """Ask, and print a line for each weakness."""
    words = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--format", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        print(f"the advisory service cannot be reached, nothing is known: {last}", file=sys.stderr)
        return UNREACHABLE
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        print("the advisory service answers for no package: nothing is known", file=sys.stderr)
        return UNREACHABLE
    weak = [package for package in packages if package.get("vulns")]
    for package in weak:
        for one in package["vulns"]:
            mended = ", ".join(one["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {one['id']}, mended in {mended}")
    if skipped:
        print(f"not asked about: {', '.join(skipped)}")
    n_asked = len(packages) - len(skipped)
    print(f"packages asked about: {n_asked}; with a known weakness: {len(weak)}")
    return int(bool(weak))


if __name__ == "__main__":
    sys.exit(main())
