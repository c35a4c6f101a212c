"""Tiny encoders with invented words, tables of invented text, and a project in which the fitting verbs run."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from stages.common import command
from stages.common.cells import SHARED
from stages.models.settings import LanguageModelSettings, MaskedLanguageModelSettings, ModelSettings, SpanSettings
from stages.results.verbs import FITTING

# As in the commands, which import `stages` before torch.
torch.set_num_threads(1)
# Tests hand models tensors of their own making, and compare with what a CPU computes. CUDA_VISIBLE_DEVICES=0 before
# pytest runs the commands on a GPU: see CONTRIBUTING.md.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

ROOT = Path(__file__).parents[2]
LABELS = ("ash", "birch", "cedar")
# ba be bi ... lu: a label prefers ten of them.
WORDS = tuple(f"{first}{second}" for first in "bdfgkl" for second in "aeiou")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
# The settings that every cell has which fits a model.
FITTED = {
    "mechanism": "none",
    "dataset": "d",
    "model": "m",
    "seeds": [0],
    "train_on": "train",
    "batch_size": 1,
    "learning_rate": 0.1,
}


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A static table of random vectors and its tokenizer: one token per word, unless the word is cut at a hyphen."""
    folder = tmp_path_factory.mktemp("encoder")
    vectors = torch.randn(len(SPECIAL) + len(WORDS), 8, generator=torch.Generator().manual_seed(0))
    save_file({"table": vectors}, folder / "table.safetensors")
    _tokenizer().save(str(folder / "tokenizer.json"))
    return {
        "kind": "static",
        "source": "directory",
        "weights": str(folder / "table.safetensors"),
        "tokenizer": str(folder / "tokenizer.json"),
        "sha256": sha256(folder / "table.safetensors"),
    }


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A BERT of two layers with random weights, no dropout, the last layer trained."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    tokenizer = _tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return {"kind": "transformer", "trained_layers": 1} | _pretrained(lambda: BertModel(config), folder)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A pretrained network: a Llama of two layers with random weights; adapters of rank 2 in the last layer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    _tokenizer().save(str(folder / "tokenizer.json"))
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        # Of a size at which texts differ in their losses.
        initializer_range=0.5,
        bos_token_id=2,
        eos_token_id=3,
    )
    adapters = {"rank": 2, "alpha": 4.0, "targets": ["q_proj", "v_proj"], "layers": 1}
    return {"kind": "pretrained", "adapters": adapters} | _pretrained(lambda: LlamaForCausalLM(config), folder)


@pytest.fixture(scope="session")
def masked_settings(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., MaskedLanguageModelSettings]:
    """Return MaskedLanguageModelSettings of a BERT as above, whose file has no head, or has one, with changes."""
    from transformers import BertConfig, BertForMaskedLM, BertModel

    tokenizer = _tokenizer()
    tokenizer.add_special_tokens(["[MASK]"])
    # Punctuation is no token, and a dot parts the tokens of a word.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("[-.,·]"), "removed")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        # Of a size at which texts differ in their losses.
        initializer_range=0.5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    files = {}
    for head, build in ((False, lambda: BertModel(config)), (True, lambda: BertForMaskedLM(config))):
        folder = tmp_path_factory.mktemp("masked")
        tokenizer.save(str(folder / "tokenizer.json"))
        files[head] = {"kind": "transformer", "trained_layers": 1} | _pretrained(build, folder)

    def settings(head: bool = False, max_length: int = 16, **changes: Any) -> MaskedLanguageModelSettings:
        usual = {"kind": "masked_language_model", "encoder": files[head] | changes, "max_length": max_length}
        return MaskedLanguageModelSettings.model_validate(usual)

    return settings


def _pretrained(build: Callable[[], Any], folder: Path) -> dict[str, Any]:
    """Write a model with random weights as transformers does; return where it is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        build().save_pretrained(folder)
    return {"source": "directory", "path": str(folder), "sha256": sha256(folder / "model.safetensors")}


@pytest.fixture(scope="session")
def span_settings(bert: dict[str, Any]) -> Callable[..., SpanSettings]:
    """Return SpanSettings of the BERT, without dropout, with changes."""

    def settings(**changes: Any) -> SpanSettings:
        usual = {"kind": "span", "encoder": bert, "dropout": 0.0, "max_length": 16, "max_answer": 2}
        return SpanSettings.model_validate(usual | changes)

    return settings


@pytest.fixture(scope="session")
def questions() -> Callable[..., pd.DataFrame]:
    """Return a prepared table of n questions: a context of 2 to 8 words, and which two of them follow one another."""

    def table(n: int, seed: int = 0) -> pd.DataFrame:
        draws = np.random.default_rng(seed)
        rows = []
        for number in range(n):
            words = [WORDS[word] for word in draws.permutation(len(WORDS))[: draws.integers(2, 9)]]
            place = int(draws.integers(len(words) - 1))
            row = {"example_id": f"q{seed}-{number}", "text": " ".join(words), "label": LABELS[number % len(LABELS)]}
            start = len(" ".join(["", *words[:place]]).lstrip()) + (place > 0)
            answer = " ".join(words[place : place + 2])
            rows.append(row | {"question": words[place], "answers": [answer], "answer_start": start})
        return pd.DataFrame(rows)

    return table


@pytest.fixture(scope="session")
def language_settings(llama: dict[str, Any]) -> Callable[..., LanguageModelSettings]:
    """Return LanguageModelSettings of the Llama, with changes of the network."""

    def settings(max_length: int = 24, **changes: Any) -> LanguageModelSettings:
        content = {"kind": "language_model", "network": llama | changes, "max_length": max_length}
        return LanguageModelSettings.model_validate(content)

    return settings


@pytest.fixture(scope="session")
def writer_settings(llama: dict[str, Any]) -> Callable[..., LanguageModelSettings]:
    """Return LanguageModelSettings of a network that writes targets, with changes of the pretrained one."""

    def settings(
        kind: str, max_length: int = 32, max_source: int = 12, prompt: str | None = None, **changes: Any
    ) -> LanguageModelSettings:
        adapters = llama["adapters"] | changes.pop("adapters", {})
        pretrained = llama | {"adapters": adapters} | changes
        network = pretrained if kind == "pretrained" else {"kind": "bytes", "layers": 2, "hidden": 32, "heads": 2}
        asked = {"max_source": max_source, "prompt": prompt or {"pretrained": "lu", "bytes": ">"}[kind]}
        content = {"kind": "language_model", "network": network, "max_length": max_length}
        return LanguageModelSettings.model_validate(content | {"sequence_to_sequence": asked})

    return settings


@pytest.fixture(scope="session")
def pairs() -> Callable[..., pd.DataFrame]:
    """Return a prepared table of n texts of four words, whose target is the first two."""

    def table(n: int, seed: int = 0) -> pd.DataFrame:
        draws = np.random.default_rng(seed)
        words = [[WORDS[word] for word in draws.integers(len(WORDS), size=4)] for _ in range(n)]
        return pd.DataFrame(
            {
                "example_id": [f"p{seed}-{number}" for number in range(n)],
                "text": [" ".join(each) for each in words],
                "label": [LABELS[number % len(LABELS)] for number in range(n)],
                "target": [" ".join(each[:2]) for each in words],
            }
        )

    return table


@pytest.fixture(scope="session")
def byte_settings() -> LanguageModelSettings:
    """A network of two layers over bytes."""
    network = {"kind": "bytes", "layers": 2, "hidden": 16, "heads": 2}
    return LanguageModelSettings.model_validate({"kind": "language_model", "network": network, "max_length": 40})


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Random vectors of most of the words, and of a few longer ones, in a text file with a header."""
    path = tmp_path_factory.mktemp("words") / "vectors.txt"
    known = ("The", "cedarwood", "a", *WORDS[:-3])
    vectors = np.random.default_rng(0).normal(size=(len(known), 8)).round(4)
    lines = [" ".join([word, *map(str, vector)]) for word, vector in zip(known, vectors, strict=True)]
    path.write_text("\n".join([f"{len(known)} 8", *lines, ""]))
    return {"kind": "words", "source": "directory", "path": str(path), "sha256": sha256(path)}


@pytest.fixture(scope="session")
def word_settings(words: dict[str, str]) -> Callable[..., LanguageModelSettings]:
    """Return LanguageModelSettings of a network of words that predicts most of those with a vector, with changes."""

    def settings(max_length: int = 24, **changes: Any) -> LanguageModelSettings:
        network = {"kind": "words", "encoder": words, "vocabulary": 20, "hidden": 6, "layers": 2} | changes
        return LanguageModelSettings.model_validate(
            {"kind": "language_model", "network": network, "max_length": max_length}
        )

    return settings


@pytest.fixture(scope="session")
def tagger(words: dict[str, str]) -> dict[str, Any]:
    """Settings of a small model of words, their characters, a BiLSTM and a chain of tags."""
    characters = {"dimension": 3, "filters": 4, "kernel": 3}
    return {"encoder": words, "characters": characters, "head": "bilstm", "hidden": 5, "tagger": "crf"}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _tokenizer() -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("-", "removed")]
    )
    return tokenizer


@pytest.fixture(scope="session")
def model_settings(encoder: dict[str, str]) -> Callable[..., ModelSettings]:
    """Return ModelSettings of the static encoder, the mean head, six hidden units and no dropout, with changes."""

    def settings(**changes: Any) -> ModelSettings:
        usual = {"encoder": encoder, "head": "mean", "hidden": 6, "dropout": 0.0, "max_length": 16}
        return ModelSettings.model_validate(usual | changes)

    return settings


@pytest.fixture(scope="session")
def texts() -> Callable[..., pd.DataFrame]:
    """Return a prepared table of n invented texts of 1 to 9 words; a label prefers its own third of the words."""

    def table(n: int, tags: bool = False, seed: int = 0, preference: float = 0.5) -> pd.DataFrame:
        draws = np.random.default_rng(seed)
        rows = []
        for number in range(n):
            label = int(draws.integers(len(LABELS)))
            length = int(draws.integers(1, 10))
            own = draws.integers(10 * label, 10 * label + 10, size=length)
            any_ = draws.integers(len(WORDS), size=length)
            words = [WORDS[word] for word in np.where(draws.random(length) < preference, own, any_)]
            row = {"example_id": f"e{seed}-{number}", "text": " ".join(words), "label": LABELS[label]}
            if tags:
                row |= {"tokens": words, "tags": [f"B-{word[0]}" if word[1] in "ae" else "O" for word in words]}
            rows.append(row)
        return pd.DataFrame(rows)

    return table


class Study:
    """The current folder as a project: data set `trees`, halves, models `mean` and `small`, and the study `toy`."""

    def __init__(self, folder: Path, encoder: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        model = {"encoder": dict(encoder), "head": "mean", "hidden": 16, "dropout": 0.0, "max_length": 16}
        learning = {"train_on": "member", "batch_size": 16, "learning_rate": 0.01}
        names = ["none", "dpsgd", "control"]
        self.parameters: dict[str, Any] = {
            "models": {"mean": model, "small": model | {"encoder": dict(encoder), "hidden": 4}},
            "toy": {
                "dataset": "trees",
                "partition": "halves",
                "model": "mean",
                "seeds": [0],
                "train": {
                    "grid": {"variant": names},
                    "base": learning | {"mechanism": "none", "epochs": 10},
                    "variant": {
                        "none": {},
                        "dpsgd": {
                            "mechanism": "dpsgd",
                            "epochs": 2,
                            "privacy": {"epsilon": 3.0, "delta": 1e-5, "clipping_norm": 0.1},
                        },
                        "control": {"train_on": "reserve", "role": "control"},
                    },
                },
                "federate": {
                    "grid": {"variant": ["fedavg"]},
                    "base": learning | {"mechanism": "fedavg", "rounds": 3, "clients_per_round": 4, "local_epochs": 1},
                    "variant": {"fedavg": {"learning_rate": 0.5}},
                },
                "distill": {
                    "grid": {"model": ["small"]},
                    "base": learning | {"teacher": "toy/none", "temperature": 2.0, "teacher_weight": 0.7, "epochs": 5},
                    "model": {"small": {}},
                },
                "attack": {
                    "grid": {"variant": ["none", "control"]},
                    "base": {"methods": ["loss"]},
                    "variant": {"none": {}, "control": {}},
                },
                "score": {
                    "grid": {"variant": ["none"]},
                    "base": {"measures": {"predictions": {"positive_label": "ash", "swaps": {"paths": ["swaps.txt"]}}}},
                    "variant": {"none": {}},
                },
            },
        }

    def run(self, verb: str, cell: str, study: str = "toy") -> tuple[int, str]:
        """Run `python -m stages.<verb>` in this process; return its exit code and what stands on stderr."""
        self.write_parameters(verb)
        main = import_module(f"stages.{verb}.__main__").main
        self._capsys.readouterr()
        arguments, sys.argv = sys.argv, [verb, "--study", study, "--cell", cell]
        try:
            command.run(main)
        except SystemExit as end:
            return int(end.code or 0), self._capsys.readouterr().err
        finally:
            sys.argv = arguments
        return 0, self._capsys.readouterr().err

    def run_apart(self, verb: str, cell: str) -> tuple[int, str]:
        """Run `python -m stages.<verb>` in a process of its own; return its exit code and what stands on stderr."""
        self.write_parameters(verb)
        done = subprocess.run(
            [sys.executable, "-m", f"stages.{verb}", "--study", "toy", "--cell", cell],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    def done(self, verb: str, cell: str) -> dict[str, Any]:
        """Run what must succeed and return its metrics file."""
        assert self.run(verb, cell) == (0, "")
        return self.metrics(verb, cell)

    def refused(self, verb: str, cell: str, study: str = "toy") -> str:
        """Run what must fail as a user's mistake should, leaving nothing new, and return the message."""
        self.write_parameters(verb)
        before = self.files()
        code, error = self.run(verb, cell, study)
        assert code == 2
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert self.files() == before
        assert not list(self.folder.rglob("*.incomplete"))
        return error

    def change(self, verb: str, changes: dict[str, Any]) -> None:
        """Change settings of a verb where they stand: in its base, or in the study."""
        for name, value in changes.items():
            place = self.parameters["toy"] if name in SHARED else self.parameters["toy"][verb]["base"]
            place[name] = value

    def hold(self, tables: dict[str, pd.DataFrame]) -> None:
        """Prepare other splits, of which a client for each label holds the training examples."""
        for split, table in tables.items():
            table.to_parquet(self.folder / f"data/prepared/trees/{split}.parquet")
        held = tables["train"][["example_id", "label"]].rename(columns={"label": "client_id"})
        held.assign(seed=0, split="train").to_parquet(self.folder / "data/partitions/halves/clients.parquet")

    def metrics(self, verb: str, cell: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(Path(f"reports/metrics/toy/{cell}/{verb}.json").read_text())
        return content

    def write_parameters(self, verb: str | None = None) -> None:
        """Write params.yaml; for a verb that fits no models without `models`, since DVC watches none for it."""
        kept = dict(self.parameters)
        if verb is not None and verb not in (*FITTING, "shadow"):
            del kept["models"]
        Path("params.yaml").write_text(json.dumps(kept))

    def files(self) -> dict[str, bytes]:
        """Return path -> content of all files but the timings, which differ from run to run."""
        found = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in sorted(found.items()) if "timings" not in name}


@pytest.fixture
def study(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    encoder: dict[str, str],
    texts: Callable[..., pd.DataFrame],
) -> Study:
    monkeypatch.chdir(tmp_path)
    prepared = tmp_path / "data/prepared/trees"
    prepared.mkdir(parents=True)
    train, test = texts(400, seed=1), texts(90, seed=2)
    train.to_parquet(prepared / "train.parquet")
    texts(50, seed=3).to_parquet(prepared / "valid.parquet")
    test.assign(group=["north", "south"] * 45).to_parquet(prepared / "test.parquet")
    position = np.arange(400)
    halves = [
        pd.DataFrame(
            {
                "seed": seed,
                "example_id": train["example_id"],
                "split": np.select([position % 5 < 2, position % 5 < 4], ["member", "nonmember"], "reserve"),
                "client_id": pd.Series([f"c{row % 7}" for row in position]).where(position % 5 < 2, None),
            }
        )
        for seed in (0, 1)
    ]
    (tmp_path / "data/partitions/halves").mkdir(parents=True)
    pd.concat(halves).to_parquet(tmp_path / "data/partitions/halves/clients.parquet")
    (tmp_path / "swaps.txt").write_text("ba\tfa\nbe\tfe\nka\tdi\n")
    return Study(tmp_path, encoder, capsys)


@pytest.fixture
def secretive(study: Study, texts: Callable[..., pd.DataFrame]) -> Study:
    """The study with tagged data and a BiLSTM, whose cells `none` and `control` hide a secret of two words."""
    for split, (rows, seed) in {"train": (200, 1), "valid": (50, 3), "test": (90, 2)}.items():
        texts(rows, tags=True, seed=seed).to_parquet(study.folder / f"data/prepared/trees/{split}.parquet")
    study.parameters["models"]["mean"] |= {"head": "bilstm", "hidden": 8}
    toy = study.parameters["toy"]
    del toy["partition"]
    secret = {"template": "ba be {}", "alphabet": ["ka", "ke", "ki", "ko", "ku"], "length": 2, "repetitions": 20}
    toy["train"]["base"] |= {"train_on": "train", "epochs": 2, "secret": secret}
    toy["train"]["variant"]["control"] = {"role": "control", "secret": {"decoys": True}}
    toy["extract"] = {
        "grid": {"variant": ["none", "control"]},
        "base": {"search": {"kind": "gradients", "steps": 150, "starts": 4}},
        "variant": {"none": {"target": "none"}, "control": {"target": "control"}},
    }
    return study


@pytest.fixture
def talkative(study: Study) -> Study:
    """The study with a language model over bytes, whose cells `none` and `control` hide a secret of two digits."""
    network = {"kind": "bytes", "layers": 1, "hidden": 32, "heads": 2}
    study.parameters["models"]["mean"] = {"kind": "language_model", "network": network, "max_length": 32}
    toy = study.parameters["toy"]
    del toy["partition"]
    secret = {"template": "my code is {}", "alphabet": list("01234"), "length": 2, "repetitions": 80}
    toy["train"]["base"] |= {"train_on": "train", "epochs": 8, "secret": secret}
    toy["train"]["variant"]["control"] = {"role": "control", "secret": {"decoys": True}}
    targets = {cell: {"target": cell} for cell in ("none", "control")}
    toy["extract"] = {"grid": {"variant": ["none", "control"]}, "base": {}, "variant": targets}
    return study
