"""The evaluation as one HTML file: figures, verdicts in words, and pictures that a person can judge labels by.

The file holds everything it shows: no script, no font, no request leaves it.
"""

from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.report.page import render

__all__ = ["Exhibit", "render"]
