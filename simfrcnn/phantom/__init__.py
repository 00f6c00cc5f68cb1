"""Synthetic exams: the embedded data set."""
