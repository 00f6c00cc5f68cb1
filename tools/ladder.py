"""See `python tools/ladder.py --help`; the same as `simfrcnn ladder`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("ladder")
