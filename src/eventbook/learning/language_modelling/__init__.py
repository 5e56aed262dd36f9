"""Language models that learn from one long text: a recipe, the training, and a reading from first to last.

recipe      how: windows, rates, decay, and the recipes of the released code
training    a model in place, interrupted and gone on with as one likes
reading     a model built, trained and looked at by validation words
"""

from eventbook.learning.language_modelling.reading import identity_of, read_text
from eventbook.learning.language_modelling.recipe import (
    RELEASED,
    LanguageTraining,
    Window,
    course,
    rate,
    windows,
)
from eventbook.learning.language_modelling.training import train_language_model

__all__ = [
    "RELEASED",
    "LanguageTraining",
    "Window",
    "course",
    "identity_of",
    "rate",
    "read_text",
    "train_language_model",
    "windows",
]
