"""See `python tools/export.py --help`; the same as `simfrcnn export`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("export")
