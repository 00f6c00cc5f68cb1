"""From files to samples: DICOM, COCO, preprocessing, splits, the training lists, the phantoms."""

import cv2

# Loading runs in several processes already, and OpenCV's thread pool does not survive a fork: a
# loading process that inherits it waits forever.
cv2.setNumThreads(0)
