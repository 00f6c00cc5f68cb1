"""CBIS-DDSM: its tables, its files in every known layout, its records, its files in order."""
