"""Looking at a data set: what would spoil a training (checks), and what is in it (overview)."""
