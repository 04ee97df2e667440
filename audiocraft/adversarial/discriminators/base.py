"""What every discriminator gives."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

# Activations of one sub-discriminator, from its first hidden layer to its last.
FeatureMapType = list[Tensor]
LogitsType = Tensor
MultiDiscriminatorOutputType = tuple[list[LogitsType], list[FeatureMapType]]


class MultiDiscriminator(ABC, nn.Module):
    """Several sub-discriminators that look at one signal in different ways."""

    @abstractmethod
    def forward(self, x: Tensor) -> MultiDiscriminatorOutputType:
        """x [B, C, T] → logits and feature maps, one entry per sub-discriminator; high logits mean real."""

    @property
    @abstractmethod
    def num_discriminators(self) -> int:
        """Sub-discriminators inside."""
