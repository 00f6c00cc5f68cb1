"""Several results of the same images become one: by union, or by rescoring the first."""
