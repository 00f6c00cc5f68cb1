"""See `python tools/combine.py --help`; the same as `simfrcnn combine`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("combine")
