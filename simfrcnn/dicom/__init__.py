"""One DICOM file: its header, pixels, greyscale and view."""
