"""A file gives back the model to half precision, and what is no such file is said to be none."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from eventbook.learning.pruning import rewire
from eventbook.models.egru import compress
from eventbook.models.language_model import LanguageModel, LanguageModelConfig, load_model, save_model

CONFIG = LanguageModelConfig(30, 8, (12, 8), reset="value", surrogate_support=5.0)


def test_round_trip(tmp_path: Path):
    model = LanguageModel(CONFIG, torch.Generator().manual_seed(0)).eval()
    save_model(model, tmp_path / "a" / "model.safetensors", {"seed": 3})
    read, about = load_model(tmp_path / "a" / "model.safetensors")
    assert read.config == CONFIG
    assert about == {"seed": 3}
    assert not read.training
    for (name, a), b in zip(model.state_dict().items(), read.state_dict().values(), strict=True):
        assert torch.equal(a.half().float(), b), name
    words = torch.arange(10)[None]
    torch.testing.assert_close(read(words)[0], model(words)[0], rtol=0, atol=5e-3)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model.safetensors"]
    content = (tmp_path / "a" / "model.safetensors").read_bytes()
    from_bytes, also = load_model(content)
    assert (from_bytes.config, also) == (CONFIG, about)
    assert torch.equal(from_bytes.embedding, read.embedding)
    save_model(read, tmp_path / "again.safetensors", about)
    first, again = tmp_path / "a" / "model.safetensors", tmp_path / "again.safetensors"
    assert first.read_bytes() == again.read_bytes()


def test_what_does_not_fit_half_precision_is_not_written(tmp_path: Path):
    model = LanguageModel(CONFIG)
    with torch.no_grad():
        model.bias[3] = 1e6
    with pytest.raises(ValueError, match="weights must be finite in half precision, bias is not"):
        save_model(model, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError):
        save_model(LanguageModel(CONFIG), tmp_path / "model.safetensors", {"when": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["compressed", "rewired"])
def test_a_model_with_other_weights_than_its_config_says_is_not_written(tmp_path: Path, how: str):
    model = LanguageModel(CONFIG, torch.Generator().manual_seed(0))
    if how == "compressed":
        model.recurrent = compress(model.recurrent)
    else:
        rewire(model, 0.5)
    with pytest.raises(ValueError, match=r"weights of its config, got one without recurrent\.cells\.0"):
        save_model(model, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_reading_draws_nothing(tmp_path: Path):
    save_model(LanguageModel(replace(CONFIG, cell="lstm")), tmp_path / "model.safetensors")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_model(tmp_path / "model.safetensors")
    assert torch.equal(torch.rand(3), expected)


def test_what_is_no_model_is_refused(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match=r"language model in .*model\.safetensors, found no such"):
        load_model(path)
    save_model(LanguageModel(CONFIG), path)
    whole = path.read_bytes()

    def refused(line: str) -> None:
        with pytest.raises(ValueError, match=line) as caught:
            load_model(path)
        assert "\n" not in str(caught.value)

    path.write_bytes(whole[: len(whole) // 2])
    refused("expected the weights of a language model in")
    with pytest.raises(ValueError, match="expected the weights of a language model in these bytes: "):
        load_model(whole[: len(whole) // 2])
    path.write_bytes(b"not one")
    refused("expected the weights of a language model in")
    path.write_bytes(whole)
    weights = load_file(path)
    sizes = {"vocabulary": 30, "embedding": 8, "hidden_sizes": [12, 8]}
    text = {"language_model": json.dumps({"config": sizes, "about": {}})}
    save_file({k: v for k, v in weights.items() if k != "bias"}, path, text)
    refused("bias")
    save_file(weights, path)
    refused("language_model")
    save_file(weights, path, {"language_model": json.dumps({"config": {**sizes, "layers": 3}, "about": {}})})
    refused("layers")
