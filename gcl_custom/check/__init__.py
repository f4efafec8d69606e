"""What a recipe would do and take, before any training."""
