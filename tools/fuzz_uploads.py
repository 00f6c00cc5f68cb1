"""See `python tools/fuzz_uploads.py --help`."""

from fuzz import uploads
from simfrcnn.cli.main import run_program

if __name__ == "__main__":
    run_program(uploads)
