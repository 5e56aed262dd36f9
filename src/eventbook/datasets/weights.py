"""Weights that a full run of the project trained, for whoever wants to begin with them.

They are files like others of the manifest, of the format safetensors. What forms a model and how it came
about stands in the file; ``data/train_language_models.py`` makes them anew.

Source: derived.
"""

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.manifest import read_manifest
from eventbook.datasets.storage.store import read_dataset

# in full: a notebook that reaches this file is stale when they change
WEIGHTS = ("state_of_the_union_egru", "state_of_the_union_lstm")


def weight_sets() -> list[str]:
    """Names of all weights."""
    return list(WEIGHTS)


def load_weights(name: str) -> bytes:
    """Read the weights of a model.

    Parameters
    ----------
    name : str
        One of `weight_sets`, such as ``"state_of_the_union_egru"``.

    Returns
    -------
    content : bytes
        Of a file of safetensors: for `eventbook.models.language_model.load_model`, or any other reader.

    Raises
    ------
    DataError
        If there are no such weights, or the file is missing or not what the manifest pins.
    """
    if name not in WEIGHTS:
        raise DataError(f"name: expected one of {', '.join(WEIGHTS)}, got {name!r}")
    (file,) = read_manifest()[name].files
    (content,), _ = read_dataset(name, [file.path])
    return content
