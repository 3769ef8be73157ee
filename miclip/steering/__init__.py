"""Edits of units: what they are, how they compile to tensors, and how a mixed batch takes them."""
