"""The second look: a network of its own judges what the detector suspects, from fresh pixels.

``crops``: which square of which picture. ``choice``: which regions train it. ``places``: which do
so in a control. ``memory``: which squares of earlier steps come again. ``network``: what judges a
square. ``scores``: how two scores become one. ``module``: all of it as one module, which the
engines call.
"""

from simfrcnn.second_look.choice import Regions
from simfrcnn.second_look.crops import Picture, identity_of, picture_of
from simfrcnn.second_look.module import SecondLook
from simfrcnn.second_look.scores import Found, Rescored

__all__ = ["Found", "Picture", "Regions", "Rescored", "SecondLook", "identity_of", "picture_of"]
