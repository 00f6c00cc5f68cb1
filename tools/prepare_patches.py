"""See `python tools/prepare_patches.py --help`; the same as `simfrcnn prepare-patches`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("prepare-patches")
