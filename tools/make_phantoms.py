"""See `python tools/make_phantoms.py --help`; the same as `simfrcnn make-phantoms`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("make_phantoms")
