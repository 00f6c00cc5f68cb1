"""What is drawn: pairs of images, regions of normal images, partners of malignant regions."""
