"""See `python tools/predict.py --help`; the same as `simfrcnn predict`."""

from simfrcnn.cli.main import run_tool

if __name__ == "__main__":
    run_tool("predict")
