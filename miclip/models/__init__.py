"""Target models, CLIP models, and the loaders that build them."""
