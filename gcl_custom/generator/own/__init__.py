"""The networks that are trained on the user's own tiles: VQGAN and MaskGIT."""
