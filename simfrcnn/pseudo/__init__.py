"""Pseudo-boxes of weakFaster R-CNN: what a model finds on images that are known to be normal."""
