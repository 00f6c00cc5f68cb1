"""Print what changed from one report to another: rules, data, counts and figures.

python tools/report_changes.py earlier/report.json later/report.json

It is `simfrcnn.report_changes`, which an installed package has too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from simfrcnn import report_changes
from simfrcnn.errors import SimFrcnnError


def main() -> int:
    """Print the page; a file that is no report is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("earlier", type=Path, help="a report.json, or its folder")
    parser.add_argument("later", type=Path)
    arguments = parser.parse_args()
    try:
        page = report_changes(arguments.earlier, arguments.later)
    except SimFrcnnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(page, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
