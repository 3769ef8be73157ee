"""Dictionaries: training sparse autoencoders on a layer, and measuring what they keep of it."""

from miclip.dictionaries.foreign import import_dictionary
from miclip.dictionaries.quality import Quality, measure
from miclip.dictionaries.recipe import SaeRecipe
from miclip.dictionaries.run import train_dictionary
from miclip.dictionaries.train import train_sae

__all__ = ["Quality", "SaeRecipe", "import_dictionary", "measure", "train_dictionary", "train_sae"]
