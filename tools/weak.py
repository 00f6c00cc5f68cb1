"""See `python tools/weak.py --help`; the same as `simfrcnn weak`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("weak")
