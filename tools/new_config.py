"""See `python tools/new_config.py --help`; the same as `simfrcnn new-config`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("new_config")
