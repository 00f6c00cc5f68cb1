"""Print what changed from one report to another: rules, data, counts and figures.

python tools/report_changes.py earlier/report.json later/report.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from simfrcnn.errors import SimFrcnnError
from simfrcnn.evaluation.report_file import read_report
from simfrcnn.evaluation.reporting.changes import changes
from simfrcnn.evaluation.reporting.documents import markdown_page


def main() -> int:
    """Print the page; a file that is no report is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("earlier", type=Path, help="a report.json, or its folder")
    parser.add_argument("later", type=Path)
    arguments = parser.parse_args()
    try:
        sections = changes(read_report(arguments.earlier), read_report(arguments.later))
    except SimFrcnnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(markdown_page("What changed", sections), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
