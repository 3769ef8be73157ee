"""The aligner service: embeddings in CLIP space, and the alignments that make atlases."""
