"""See `python tools/fuzz_dicom.py --help`."""

from fuzz import run
from simfrcnn.cli.main import run_program

if __name__ == "__main__":
    run_program(run)
