import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from stages.common.errors import InputError
from stages.common.settings import read_parameters
from stages.partition.settings import SCHEMES, LabelShift, PartitionSettings, read

IID = {"dataset": "news", "scheme": "iid", "clients": 3, "seeds": [0, 1]}


def read_one(block):
    return read({"datasets": {"news": {}}, "partitions": {"some": block}}, "some")


def test_a_partition_is_read_by_its_scheme():
    settings = read_one(IID | {"scheme": "label_shift", "alpha": 1, "membership": {"member": 0.4, "nonmember": 0.6}})
    assert isinstance(settings, LabelShift)
    assert settings.membership is not None
    assert settings.membership.nonmember == 0.6


def test_the_union_knows_every_scheme():
    adapter = TypeAdapter(PartitionSettings)
    encoder = {"kind": "static", "source": "package", "package": "p", "weights": "w", "tokenizer": "t"}
    own = {
        "iid": {},
        "label_shift": {"alpha": 1.0},
        "label_dirichlet": {"alpha": 1.0, "least": 10},
        "shards": {"shards": 2},
        "feature_shift": {"alpha": 1.0, "clusters": 5, "encoder": encoder, "max_length": 16},
        "quantity_shift": {"beta": 1.0, "periods": {"column": "time", "count": 2}},
        "power_law": {"exponent": 1.0, "least": 3},
    }
    for scheme, extra in own.items():
        assert type(adapter.validate_python(IID | {"scheme": scheme} | extra)) is SCHEMES[scheme]
    natural = {"dataset": "news", "scheme": "natural", "column": "author", "seeds": [0]}
    assert type(adapter.validate_python(natural)) is SCHEMES["natural"]
    assert set(SCHEMES) == {*own, "natural"}


def test_every_partition_of_the_project_is_valid():
    parameters = read_parameters(Path(__file__).parents[3] / "params.yaml")
    for name in parameters["partitions"]:
        assert read(parameters, name).dataset in parameters["datasets"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheme": "dirichlet"}, r"partitions.some.scheme: 'dirichlet' is not allowed; .*'label_shift'"),
        ({"scheme": "label_shift"}, r"partitions.some.alpha: missing"),
        ({"scheme": "label_shift", "alpha": 0.0}, r"partitions.some.alpha: 0.0 is not allowed; .*greater than 0"),
        ({"scheme": "quantity_shift", "beta": -1.0}, r"partitions.some.beta: -1.0 is not allowed"),
        ({"scheme": "power_law", "exponent": 0.0}, r"partitions.some.exponent: 0.0 is not allowed; .*greater than 0"),
        ({"scheme": "power_law"}, r"partitions.some.exponent: missing"),
        ({"scheme": "natural", "column": "author"}, r"partitions.some.clients: no such setting; allowed: column"),
        ({"alpha": 1.0}, r"partitions.some.alpha: no such setting; allowed: clients, dataset"),
        ({"clients": 0}, r"partitions.some.clients: 0 is not allowed"),
        ({"clients": True}, r"partitions.some.clients: True is not allowed"),
        ({"scheme": "shards", "shards": 0}, r"partitions.some.shards: 0 is not allowed"),
        ({"scheme": "label_dirichlet", "alpha": 1.0, "least": 0}, r"partitions.some.least: 0 is not allowed"),
        ({"periods": {"column": "time", "count": 1}}, r"partitions.some.periods.count: 1 is not allowed; .*equal to 2"),
        ({"seeds": []}, r"partitions.some.seeds: \[\] is not allowed; .*at least 1"),
        ({"seeds": [1, 1]}, r"partitions.some.seeds: \[1, 1\] is not allowed; each seed must be given once"),
        ({"seeds": [-1]}, r"partitions.some.seeds.0: -1 is not allowed"),
        (
            {"membership": {"member": 0.6, "nonmember": 0.5}},
            r"partitions.some.membership: .* not add up to more than 1",
        ),
        ({"membership": {"member": 0.0, "nonmember": 0.5}}, r"partitions.some.membership.member: 0.0 is not allowed"),
        ({"dataset": "olds"}, r"partitions.some.dataset: there is no data set `olds`; there are: news"),
    ],
)
def test_a_wrong_setting_names_key_value_and_remedy(change, message):
    with pytest.raises(InputError, match=message):
        read_one(IID | change)


@pytest.mark.parametrize("block", [None, [1], "iid"])
def test_a_block_that_is_no_mapping_is_refused(block):
    with pytest.raises(InputError, match=r"params.yaml: partitions.some: .* is not allowed"):
        read_one(block)


def test_validation_imports_neither_torch_nor_pandas():
    code = "import sys, stages.partition.settings; assert not {'torch', 'pandas', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
