"""Language models that write targets, in the commands of `train` and `federate`."""

import pytest


@pytest.fixture
def writing(study, pairs):
    """The study with targets, dealt to a client for each label, and a network over bytes that writes them."""
    study.hold({"train": pairs(60, seed=1), "valid": pairs(12, seed=3), "test": pairs(12, seed=2)})
    study.parameters["models"]["mean"] = {
        "kind": "language_model",
        "network": {"kind": "bytes", "layers": 1, "hidden": 16, "heads": 2},
        "max_length": 24,
        "sequence_to_sequence": {"max_source": 12, "prompt": ">"},
    }
    toy = study.parameters["toy"]
    for verb in ("train", "federate"):
        toy[verb]["base"] |= {"train_on": "train"}
    toy["federate"]["base"] |= {"clients_per_round": 3}
    return study


def test_cells_say_how_well_targets_are_written(writing):
    wanted = {f"test/{name}" for name in ("perplexity", "rouge1_f", "rouge2_f", "rougel_f")} | {"train/parameters"}
    central = writing.done("train", "none")["metrics"]
    assert set(central) == wanted
    assert central["test/rougel_f"]["0"]["n"] == 12
    federated = writing.done("federate", "fedavg")["metrics"]
    assert set(federated) == wanted | {"train/bytes_up", "train/bytes_down"}


def test_two_runs_write_the_same_bytes(writing):
    writing.done("train", "none")
    first = writing.files()
    writing.done("train", "none")
    assert writing.files() == first


def test_data_without_targets_are_refused(writing, texts):
    texts(12).to_parquet(writing.folder / "data/prepared/trees/test.parquet")
    for verb, cell in (("train", "none"), ("federate", "fedavg")):
        assert "prepared data: has no column `target`, and this language model" in writing.refused(verb, cell)


def test_a_secret_is_refused(writing):
    secret = {"template": "my code is {}", "alphabet": ["0", "1"], "length": 2, "repetitions": 2}
    writing.parameters["toy"]["train"]["base"]["secret"] = secret
    assert "secret: a canary has no target to be written; train another model" in writing.refused("train", "none")


def test_a_private_cell_states_its_guarantee(writing):
    writing.parameters["toy"]["train"]["variant"]["dpsgd"]["privacy"]["epsilon"] = 8.0
    metrics = writing.done("train", "dpsgd")["metrics"]
    assert 7.8 < metrics["train/epsilon"]["0"]["value"] <= 8
