import numpy as np
import pandas as pd
import pytest

from stages.common.errors import InputError
from stages.models.fitted import load_fitted


def test_a_fitted_model_reads_text_as_it_was_trained_to(study):
    study.done("train", "none")
    fitted = load_fitted("toy", "none", 0)
    train = pd.read_parquet("data/prepared/trees/train.parquet")
    assert fitted.vocabulary.labels == ["ash", "birch", "cedar"]
    labels = np.array(fitted.vocabulary.labels)[fitted.examples(train).labels]
    assert labels.tolist() == train["label"].tolist()


def test_a_seed_that_was_not_fitted_is_refused_with_the_remedy(study):
    study.done("train", "none")
    with pytest.raises(InputError, match=r"toy/none/4: no model of this seed; add 4 to params.yaml: toy.seeds"):
        load_fitted("toy", "none", 4)
