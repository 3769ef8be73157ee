"""The atlas: everything known about one target model's units, as immutable, content-addressed files.

Alignment writes it, retrieval reads it. A directory named by the SHA-256 of its ``manifest.json`` holds the manifest,
one safetensors file per layer, one for what the layers share, the names of the probe images, and from schema 3 on
thumbnails of them and images that the alignment did not use. No pickle anywhere.
"""

from miclip.atlas.forms import FEATURE_TENSORS, LABEL_TENSORS, LAYER_TENSORS, SHARED_TENSORS
from miclip.atlas.geometry import centre_texts, normalise
from miclip.atlas.layer import LayerAtlas
from miclip.atlas.manifest import (
    HELD_OUT,
    SCHEMA_VERSION,
    SHARED,
    THUMBNAILS,
    AtlasManifest,
    DictionaryEntry,
    FileEntry,
    LayerEntry,
    PicturesEntry,
    ProbeEntry,
)
from miclip.atlas.read import Atlas, is_atlas_id, read_manifest, verify
from miclip.atlas.statistics import compute_statistics, contrast, null_contrast, null_statistics
from miclip.atlas.store import (
    activate_atlas,
    active_atlas_id,
    atlas_root,
    atlas_roots,
    find_atlas,
    list_atlases,
    locate_atlas,
)
from miclip.atlas.write import write_atlas

__all__ = [
    "FEATURE_TENSORS",
    "HELD_OUT",
    "LABEL_TENSORS",
    "LAYER_TENSORS",
    "SCHEMA_VERSION",
    "SHARED",
    "SHARED_TENSORS",
    "THUMBNAILS",
    "Atlas",
    "AtlasManifest",
    "DictionaryEntry",
    "FileEntry",
    "LayerAtlas",
    "LayerEntry",
    "PicturesEntry",
    "ProbeEntry",
    "activate_atlas",
    "active_atlas_id",
    "atlas_root",
    "atlas_roots",
    "centre_texts",
    "compute_statistics",
    "contrast",
    "find_atlas",
    "is_atlas_id",
    "list_atlases",
    "locate_atlas",
    "normalise",
    "null_contrast",
    "null_statistics",
    "read_manifest",
    "verify",
    "write_atlas",
]
