"""See `python tools/models.py --help`; the same as `simfrcnn models`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("models")
