"""Pixels of a mammogram, whatever the file format, on their way to the network and to a page."""
