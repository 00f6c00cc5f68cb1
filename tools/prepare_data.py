"""See `python tools/prepare_data.py --help`; the same as `simfrcnn prepare-data`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("prepare_data")
