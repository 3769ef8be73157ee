"""miclip: what a unit of a vision model means, where a concept lives, and how to turn it."""
