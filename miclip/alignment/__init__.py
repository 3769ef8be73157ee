"""Alignment: from a target model and a probe set to an atlas."""

from miclip.alignment.encoder import EncoderSettings, NeuronEncoder, train_encoder
from miclip.alignment.probe import ActivationStore, ProbeSet
from miclip.alignment.train import AlignmentConfig, Cancelled, align_model, default_embedding

__all__ = [
    "ActivationStore",
    "AlignmentConfig",
    "Cancelled",
    "EncoderSettings",
    "NeuronEncoder",
    "ProbeSet",
    "align_model",
    "default_embedding",
    "train_encoder",
]
