"""See `python tools/data.py --help`; the same as `simfrcnn data`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("data")
