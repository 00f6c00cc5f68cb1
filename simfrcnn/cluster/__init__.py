"""Long work as jobs of a cluster (Slurm), or of this machine by the same means: submitit's."""
