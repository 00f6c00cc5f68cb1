"""See `python tools/benchmark.py --help`; the same as `simfrcnn benchmark`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("benchmark")
