"""The recipe of a training: the same for every engine."""
