"""The losses of simFaster R-CNN, as functions of tensors."""

from simfrcnn.losses.labels import label_loss
from simfrcnn.losses.multilabel import multilabel_loss, pooled
from simfrcnn.losses.similarity import (
    are_partners,
    contrastive_costs,
    cosine_costs,
    similarity_loss,
)
from simfrcnn.losses.top_likelihood import top_likelihood_loss

__all__ = [
    "are_partners",
    "contrastive_costs",
    "cosine_costs",
    "label_loss",
    "multilabel_loss",
    "pooled",
    "similarity_loss",
    "top_likelihood_loss",
]
