"""Probe sets from a folder, WebDataset shards, Parquet files or a saved Hugging Face dataset."""

from miclip.probe_sets.find import find_source
from miclip.probe_sets.source import IMAGE_SUFFIXES, LEAST, Entry, Source

__all__ = ["IMAGE_SUFFIXES", "LEAST", "Entry", "Source", "find_source"]
