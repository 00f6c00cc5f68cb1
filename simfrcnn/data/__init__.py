"""From sources to training lists: COCO files, their checks, splits, prepared pictures, exams."""

import cv2

# Loading runs in several processes already, and OpenCV's thread pool does not survive a fork: a
# loading process that inherits it waits forever.
cv2.setNumThreads(0)
