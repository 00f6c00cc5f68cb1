"""The two losses of simFaster R-CNN, as functions of tensors."""

from simfrcnn.losses.similarity import cosine_similarity_loss, similarity_loss
from simfrcnn.losses.top_likelihood import top_likelihood_loss

__all__ = ["cosine_similarity_loss", "similarity_loss", "top_likelihood_loss"]
