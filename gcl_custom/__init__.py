"""gcl-custom: generative contrastive learning on a user's own unlabelled imagery."""

__version__ = "0.1.0"
