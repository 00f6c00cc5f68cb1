"""Which options decide whether identifiers leave as pseudonyms, and where key and id map lie?"""

from __future__ import annotations

import argparse
from pathlib import Path

from simfrcnn.cli.options import add_options, given_options
from simfrcnn.described import made
from simfrcnn.workflows import identities as workflow
from simfrcnn.workflows.identities import Identities as Identities
from simfrcnn.workflows.identities import PrivacyOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--keep-identifiers``, ``--key-file`` and ``--id-map``."""
    add_options(parser, PrivacyOptions)


def identities(args: argparse.Namespace, what: str, out: Path) -> Identities | None:
    """The pseudonyms that the options ask for; None for ``--keep-identifiers``.

    See :func:`simfrcnn.workflows.identities.identities`.
    """
    own = workflow.identities(made(PrivacyOptions, given_options(args, PrivacyOptions)), what, out)
    for line in workflow.note_of_new_key(own):
        print(line)
    return own
