import pytest
from torch import nn

from stages.common.errors import SettingError
from stages.federate.freezing import frozen


@pytest.fixture
def model():
    return nn.ModuleDict({"embeddings": nn.Embedding(3, 2), "layer": nn.ModuleList([nn.Linear(2, 2) for _ in "0123"])})


def trained(model):
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_a_part_is_named_by_whole_words_within_a_parameters_name(model):
    with frozen(model, ["embeddings", "layer.1", "3.weight"]):
        assert trained(model) == ["layer.0.weight", "layer.0.bias", "layer.2.weight", "layer.2.bias", "layer.3.bias"]
    assert len(trained(model)) == 9


def test_what_was_frozen_before_stays_so(model):
    model["layer"][0].requires_grad_(False)
    with frozen(model, ["layer.1"]):
        assert trained(model)[0] == "embeddings.weight"
    assert "layer.0.weight" not in trained(model)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["layer.4"], "no trained parameter is within `layer.4`"),
        (["embedding"], "no trained parameter is within `embedding`"),
        (["layer", "embeddings"], "nothing is left to train"),
    ],
)
def test_a_part_that_is_not_there_and_a_whole_model_are_refused(model, parts, message):
    with pytest.raises(SettingError, match=message), frozen(model, parts):
        pass
