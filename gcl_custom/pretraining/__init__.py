"""Contrastive pretraining of a backbone."""
