"""Bundles: folders of models, atlases, vocabularies and labelled images that a process offers beside the user's own.

``settings().bundles`` lists them; the demo's, which comes with the package, is the default.
"""

from miclip.bundles.bundle import Bundle, bundle_of_model, bundled_probe_sets, bundles
from miclip.bundles.manifest import BundleImages, BundleManifest, ImageSet

__all__ = [
    "Bundle",
    "BundleImages",
    "BundleManifest",
    "ImageSet",
    "bundle_of_model",
    "bundled_probe_sets",
    "bundles",
]
