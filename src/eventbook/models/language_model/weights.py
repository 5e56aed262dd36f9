r"""Trained models as files: half precision, with what forms them and how they came about.

A file is in the format safetensors, which holds numbers and text and nothing that runs. Beside the weights it
has one entry of text, ``language_model``, JSON with two parts: ``config``, the fields of
`LanguageModelConfig`, and ``about``, whatever the writer has to say: recipe, seed, results, device. There is
one entry because the format keeps no order of several, and the same model is to be the same bytes.

Source: derived.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from eventbook.models.language_model.configuration import LanguageModelConfig
from eventbook.models.language_model.network import LanguageModel

KEY = "language_model"  # of the text beside the weights


def save_model(model: LanguageModel, path: str | Path, about: dict[str, Any] | None = None) -> None:
    """Write a model, rounded to half precision; the file is there whole or not at all.

    Raises
    ------
    ValueError
        If a weight is too large for half precision, or is no number; names it. If the model has not the
        weights of its config, as one that was compressed (compress it again after loading) or is being
        rewired (`settle` it first). Nothing is written.
    TypeError
        If `about` is not made of what JSON has.
    """
    path = Path(path)
    weights = {}
    expected, given = _empty(model.config).state_dict(), model.state_dict()
    if missing := [name for name in expected if name not in given]:
        raise ValueError(f"model must have the weights of its config, got one without {missing[0]}")
    for name, weight in given.items():
        weights[name] = weight.detach().cpu().to(torch.float16).contiguous()
        if not torch.isfinite(weights[name]).all():
            raise ValueError(f"weights must be finite in half precision, {name} is not")
    text = json.dumps({"config": asdict(model.config), "about": about or {}})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        save_file(weights, partial, {KEY: text})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_model(source: str | Path | bytes) -> tuple[LanguageModel, dict[str, Any]]:
    """Read a model, in single precision and in the mode of evaluation, and what its writer said.

    Parameters
    ----------
    source
        A file, or the content of one, as `eventbook.datasets.load_weights` returns it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is nothing that `save_model` wrote, is cut short, or lacks a weight; says what.
    """
    where = "these bytes"
    if not isinstance(source, bytes):
        path = Path(source)
        where = str(path)
        if not path.is_file():
            raise FileNotFoundError(f"expected the weights of a language model in {path}, found no such file")
        source = path.read_bytes()
    try:
        weights = {name: weight.float() for name, weight in load(source).items()}
        # a file begins with the length of its header, eight bytes, and the header, JSON
        header = json.loads(source[8 : 8 + int.from_bytes(source[:8], "little")])
        text = json.loads(header.get("__metadata__", {})[KEY])
        config, about = LanguageModelConfig(**text["config"]), dict(text["about"])
        model = _empty(config)
        model.load_state_dict(weights)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"expected the weights of a language model in {where}: {reason}") from None
    return model.eval(), about


def _empty(config: LanguageModelConfig) -> LanguageModel:
    """A model whose weights are to be overwritten; nothing is drawn from torch's own generator."""
    with torch.random.fork_rng(devices=[]):
        return LanguageModel(config, torch.Generator())
