import pytest

from stages.common.errors import InputError
from stages.common.settings import parse
from stages.models.settings import ModelSettings

STATIC = {"kind": "static", "source": "package", "package": "p", "weights": "w", "tokenizer": "t"}
WORDS = {"kind": "words", "source": "package", "package": "p", "path": "w.txt"}
CHARACTERS = {"dimension": 4, "filters": 4, "kernel": 3}
MODEL = {"encoder": STATIC, "head": "mean", "hidden": 4, "dropout": 0.0, "max_length": 8}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"heads": 2},
            (
                "models.mean.heads: no such setting; "
                "allowed: characters, dropout, encoder, head, hidden, layers, max_length, tagger"
            ),
        ),
        ({"head": "max"}, "models.mean.head: 'max' is not allowed; input should be 'mean' or 'bilstm'"),
        ({"dropout": 1.0}, "models.mean.dropout: 1.0 is not allowed; input should be less than 1"),
        ({"max_length": 0}, "models.mean.max_length: 0 is not allowed; input should be greater than or equal to 1"),
        ({"head": "bilstm", "hidden": 0}, "head: bilstm needs hidden of at least 1"),
        ({"tagger": "chain"}, "models.mean.tagger: 'chain' is not allowed; input should be 'independent' or 'crf'"),
        ({"characters": CHARACTERS}, "characters are for encoder.kind: words; this is static"),
        (
            {"encoder": WORDS, "characters": CHARACTERS | {"kernel": 0}},
            "models.mean.characters.kernel: 0 is not allowed; input should be greater than or equal to 1",
        ),
        (
            {"encoder": WORDS, "characters": CHARACTERS | {"width": 3}},
            "models.mean.characters.width: no such setting; allowed: dimension, filters, kernel",
        ),
        ({"encoder": WORDS, "characters": {"dimension": 4}}, "models.mean.characters.filters: missing; add it"),
        ({"encoder": WORDS | {"package": None}}, "source: package needs package"),
        ({"encoder": {"kind": "words", "source": "package", "package": "p"}}, "models.mean.encoder.path: missing"),
        (
            {"encoder": STATIC | {"wights": "w"}},
            (
                "models.mean.encoder.wights: no such setting; "
                "allowed: kind, package, repository, revision, sha256, source, tokenizer, weights"
            ),
        ),
        (
            {"encoder": STATIC | {"source": "pip"}},
            "models.mean.encoder.source: 'pip' is not allowed; input should be 'package', 'directory' or 'hub'",
        ),
        ({"encoder": STATIC | {"package": None}}, "source: package needs package"),
        ({"encoder": STATIC | {"source": "hub"}}, "source: hub needs repository and revision"),
        ({"encoder": STATIC | {"source": "directory"}}, "source: directory needs sha256"),
        (
            {"encoder": STATIC | {"source": "hub", "repository": "a/b", "revision": "main"}},
            "models.mean.encoder.revision: 'main' is not allowed",
        ),
        ({"encoder": STATIC | {"sha256": "abc"}}, "models.mean.encoder.sha256: 'abc' is not allowed"),
        ({"encoder": STATIC | {"kind": "table"}}, "models.mean.encoder: {'kind': 'table', "),
        (
            {"encoder": {"kind": "transformer", "source": "directory"}},
            "models.mean.encoder.trained_layers: missing; add it",
        ),
    ],
)
def test_a_wrong_model_is_one_line_with_its_key(changes, message):
    with pytest.raises(InputError) as error:
        parse(ModelSettings, MODEL | changes, "models.mean")
    assert message in str(error.value)
    assert str(error.value).startswith("params.yaml: models.mean")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changes", [{}, {"encoder": WORDS, "characters": CHARACTERS, "tagger": "crf"}])
def test_settings_survive_their_own_dump(changes):
    settings = parse(ModelSettings, MODEL | changes, "models.mean")
    assert ModelSettings.model_validate(settings.model_dump()) == settings
