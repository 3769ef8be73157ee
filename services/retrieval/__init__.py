"""The retrieval service: concepts of units, units of concepts, and vocabularies."""
