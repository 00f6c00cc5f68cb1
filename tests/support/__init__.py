"""What several test folders share. ``tests/`` is on the path: import it as ``support``."""
