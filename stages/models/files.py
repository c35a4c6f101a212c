"""Save and load a model: model.safetensors with what was trained, config.json with all the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stages.common import artifacts
from stages.common.errors import InputError
from stages.models.classifier import TextClassifier
from stages.models.kinds import kind
from stages.models.settings import SCHEMAS, AnyModelSettings, ModelSettings
from stages.models.text_model import TextModel

FORMAT = 1


def device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@overload
def build(settings: ModelSettings, labels: Sequence[str], tags: Sequence[str], seed: int) -> TextClassifier: ...


@overload
def build(settings: AnyModelSettings, labels: Sequence[str], tags: Sequence[str], seed: int) -> TextModel: ...


def build(settings: AnyModelSettings, labels: Sequence[str], tags: Sequence[str], seed: int) -> TextModel:
    """Return a new model on `device()`, its own layers drawn from `seed` (no global generator is changed)."""
    with torch.random.fork_rng(devices=[]):
        # Of the CPU alone, where models are made: torch.manual_seed would set those of all GPUs as well.
        torch.default_generator.manual_seed(seed)
        return kind(settings).build(settings, len(labels), len(tags)).to(device())


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that training changes, by name; what is frozen is left out."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def save(
    folder: Path, settings: AnyModelSettings, labels: Sequence[str], tags: Sequence[str], model: nn.Module
) -> None:
    """Write model.safetensors and config.json into `folder`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trained_state(model).items()}
    with artifacts.atomic_file(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary)
    config = {"format": FORMAT, "model": settings.model_dump(), "labels": list(labels), "tags": list(tags)}
    artifacts.write_json(folder / "config.json", config)


def load(folder: Path) -> tuple[TextModel, AnyModelSettings, list[str], list[str]]:
    """Return model (in eval mode), settings, labels and tags as `save` wrote them, bit for bit."""
    config = artifacts.read_json(folder / "config.json")
    if config.get("format") != FORMAT:
        raise InputError(str(folder), f"format {config.get('format')}", f"this version reads format {FORMAT}")
    settings = SCHEMAS[config["model"].get("kind")].model_validate(config["model"])
    model = build(settings, config["labels"], config["tags"], seed=0)
    tensors = load_file(folder / "model.safetensors")
    if set(tensors) != set(trained_state(model)):
        raise InputError(str(folder), "tensors do not fit config.json", "run the stage that writes it again")
    model.load_state_dict(tensors, strict=False)
    return model.eval(), settings, config["labels"], config["tags"]
