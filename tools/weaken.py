"""See `python tools/weaken.py --help`; the same as `simfrcnn weaken`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("weaken")
