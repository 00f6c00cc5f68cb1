"""Serve a web page and REST on which studies are judged and looked at.

Exam by exam, as `predict` does it. On the loopback address only, unless a token is given. Not a
medical device: the output is for research and must not guide the care of a patient.
"""

from __future__ import annotations

import argparse
from functools import partial

from simfrcnn.cli.options import add_options, given_options
from simfrcnn.described import made
from simfrcnn.service.web_settings import ServeOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    add_options(parser, ServeOptions)


def run(arguments: argparse.Namespace) -> int:
    """Serve until it is interrupted."""
    from simfrcnn.service.web import serve

    options = made(ServeOptions, given_options(arguments, ServeOptions))
    serve(options, say=partial(print, flush=True))
    return 0
