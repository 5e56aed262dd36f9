"""Weights that a full run of the project trained, for whoever wants to begin with them.

They are files like others of the manifest, of the format safetensors. What forms a model and how it came
about stands in the file; ``data/train_language_models.py`` makes them anew.

Source: derived.
"""

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.manifest import read_manifest
from eventbook.datasets.storage.store import read_dataset

ENDING = ".safetensors"


def weight_sets() -> list[str]:
    """Names of all weights in the manifest."""
    datasets = read_manifest().datasets
    return [name for name, its in datasets.items() if any(file.path.endswith(ENDING) for file in its.files)]


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
    known = weight_sets()
    if name not in known:
        raise DataError(f"name: expected one of {', '.join(known)}, got {name!r}")
    paths = [file.path for file in read_manifest()[name].files if file.path.endswith(ENDING)]
    (content, *_), _ = read_dataset(name, paths[:1])
    return content
