"""See `python tools/fuzz_dicom.py --help`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("fuzz_dicom")
