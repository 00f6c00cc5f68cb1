"""Doors to the reading room: node, pull, serve."""
