"""What is in a data set, to look at and as a config: sheets, histograms, anchors, mean."""
