"""The command line: one module per verb, each with ``add_arguments`` and ``run``."""

import os

# Before torch starts its threads: on cores that something else uses too, OpenMP threads that wait
# by spinning slow each other down tenfold and more. A value of the user's own is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
