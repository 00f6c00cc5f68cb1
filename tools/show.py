"""See `python tools/show.py --help`; the same as `simfrcnn show`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("show")
