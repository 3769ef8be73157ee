"""How well units are described and concepts localized, beside every baseline."""

from miclip.evaluation.methods import METHODS
from miclip.evaluation.run import EvaluationSettings, Subject, evaluate

__all__ = ["METHODS", "EvaluationSettings", "Subject", "evaluate"]
