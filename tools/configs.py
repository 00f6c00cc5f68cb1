"""See `python tools/configs.py --help`; the same as `simfrcnn configs`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("configs")
