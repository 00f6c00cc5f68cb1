"""See `python tools/card.py --help`; the same as `simfrcnn card`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("card")
