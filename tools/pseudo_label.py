"""See `python tools/pseudo_label.py --help`; the same as `simfrcnn pseudo-label`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("pseudo_label")
