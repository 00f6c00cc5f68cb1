"""See `python tools/evaluate.py --help`; the same as `simfrcnn evaluate`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("evaluate")
