"""How well units are described and concepts localized, beside every baseline."""

from miclip.evaluation.run import METHODS, EvaluationSettings, Subject, evaluate

__all__ = ["METHODS", "EvaluationSettings", "Subject", "evaluate"]
