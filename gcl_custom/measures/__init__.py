"""Numbers about tensors: probes, distances, signs of collapse, intervals."""
