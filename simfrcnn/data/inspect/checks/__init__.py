"""What in a data set would spoil a training or an evaluation: one small file per kind of check."""
