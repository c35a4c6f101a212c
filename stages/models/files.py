"""Save and load a classifier: model.safetensors with what was trained, config.json with all the rest."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stages.common import artifacts
from stages.common.errors import InputError
from stages.models.classifier import TextClassifier
from stages.models.settings import ModelSettings

FORMAT = 1


def device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(settings: ModelSettings, labels: Sequence[str], tags: Sequence[str], seed: int) -> TextClassifier:
    """Return a new classifier on `device()`, its own layers drawn from `seed` (the global generator is not touched)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TextClassifier(settings, len(labels), len(tags)).to(device())


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that training changes, by name; frozen encoders are left out."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def save(folder: Path, settings: ModelSettings, labels: Sequence[str], tags: Sequence[str], model: nn.Module) -> None:
    """Write model.safetensors and config.json into `folder`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trained_state(model).items()}
    with artifacts.atomic_file(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary)
    config = {"format": FORMAT, "model": settings.model_dump(), "labels": list(labels), "tags": list(tags)}
    artifacts.write_json(folder / "config.json", config)


def load(folder: Path) -> tuple[TextClassifier, ModelSettings, list[str], list[str]]:
    """Return classifier (in eval mode), settings, labels and tags as `save` wrote them, bit for bit."""
    config = artifacts.read_json(folder / "config.json")
    if config.get("format") != FORMAT:
        raise InputError(str(folder), f"format {config.get('format')}", f"this version reads format {FORMAT}")
    settings = ModelSettings.model_validate(config["model"])
    model = build(settings, config["labels"], config["tags"], seed=0)
    tensors = load_file(folder / "model.safetensors")
    if set(tensors) != set(trained_state(model)):
        raise InputError(str(folder), "tensors do not fit config.json", "run the stage that writes it again")
    model.load_state_dict(tensors, strict=False)
    return model.eval(), settings, config["labels"], config["tags"]
