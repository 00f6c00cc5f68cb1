"""The version, in one place: setup.py executes this file, everything else imports it."""

__version__ = "0.1.0"
