"""What both engines share: checkpoints, ImageNet weights, the run folder, inference, failures."""
