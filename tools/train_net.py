"""See `python tools/train_net.py --help`; the same as `simfrcnn train-net`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("train_net")
