"""DDSM: its case files, its markings, its records."""
