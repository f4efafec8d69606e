"""Boards that get a training's figures and pictures beside TensorBoard."""
