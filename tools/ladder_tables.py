"""Print the tables of figures of a ladder.json, as ladder.md shows them; no run folder is needed.

python tools/ladder_tables.py docs/results/phantom_ladder.json
"""

import argparse
import json
from pathlib import Path

from simfrcnn.evaluation.reporting.documents import Section, markdown_page
from simfrcnn.ladder.tables import OF_AN_OLDER_VERSION, completed, ladder_tables


def main() -> None:
    """Read the file, add what a file of an older version lacks, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, metavar="LADDER.JSON")
    path = parser.parse_args().file
    try:
        document = completed(json.loads(path.read_text(encoding="utf-8")))
        tables = ladder_tables(document)
    except (OSError, ValueError, LookupError, TypeError) as error:
        parser.error(f"{path} is no ladder.json of simfrcnn: {type(error).__name__}: {error}")
    sections = [Section(what, [table]) for what, table in tables.items()]
    if OF_AN_OLDER_VERSION in document["notes"]:
        sections.insert(0, Section("Notes", [OF_AN_OLDER_VERSION]))
    print(markdown_page(path.stem, sections), end="")


if __name__ == "__main__":
    main()
