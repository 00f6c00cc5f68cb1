"""A folder of one's own, with a table of labels beside the images."""
