"""``python -m simfrcnn``: the command line, also for ``torchrun -m simfrcnn VERB ...``."""

import sys

from simfrcnn.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
