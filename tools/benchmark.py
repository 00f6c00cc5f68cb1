"""See `python tools/benchmark.py --help`."""

from benchmarks import steps
from simfrcnn.cli.main import run_program

if __name__ == "__main__":
    run_program(steps)
