"""Readers: the bytes of one file -> its wanted columns, as text where the format has no types."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import compress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.errors import InputError
from stages.prepare.settings import Format

Columns = dict[str, list[Any]]
# A file's text, the wanted columns and what a message calls the file -> these columns.
Reader = Callable[[str, Sequence[str], str], Columns]
ORANGE_HEADER_ROWS = 3  # names, types, flags
# Of StereoSet: its lists of items, and its labels of sentences by the roles these play here.
TASKS = ("intrasentence", "intersentence")
SENTENCES = {"stereotype": "stereotype", "anti-stereotype": "antistereotype", "unrelated": "unrelated"}
# Of CrowS-Pairs.
DIRECTIONS = ("stereo", "antistereo")
# Of BBQ: what its contexts are called, the group of the answer that leaves a question open, and the parts of answers.
CONTEXTS = {"ambig": "ambiguous", "disambig": "disambiguated"}
UNKNOWN = "unknown"
PARTS = ("stereotype", "antistereotype", "unknown")
ANSWERS = ("ans0", "ans1", "ans2")
BBQ_FIELDS = ("context", "question", "category", "context_condition", "label", "answer_info", *ANSWERS)
# Of HateXplain: its labels; its targets that are no community; our splits by its own.
LABELS = ("hatespeech", "offensive", "normal")
NO_COMMUNITY = ("None", "Other")
DIVISIONS = {"train": "train", "valid": "val", "test": "test"}
# Of BBQ: (category, example_id) -> which answer is the biased one, None if it is not known, and whether the answers are
# names.
Metadata = dict[tuple[str, str], tuple[int | None, bool]]


def read(
    content: bytes, kind: Format, encoding: str, wanted: Sequence[str], where: str, split: str, metadata: Any
) -> Columns:
    """Return the wanted columns, all of one length above 0.

    Args:
        content: The file's bytes.
        kind: The file's format.
        encoding: Of every format but parquet.
        wanted: Names of columns.
        where: What a message calls the file.
        split: Whose rows are wanted, of a file that has those of all splits.
        metadata: What `read_metadata` returned, of a format that has some.

    Raises:
        InputError: Wrong encoding, broken format, a column that is absent, or no rows.
    """
    if kind == "hatexplain":
        reader: Reader | None = partial(_hatexplain, metadata[split])
    else:
        reader = partial(_bbq_bias, metadata) if kind == "bbq_bias" else _READERS.get(kind)
    columns = reader(_decode(content, encoding, where), wanted, where) if reader else _parquet(content, wanted, where)
    if not all(columns.values()):
        raise _empty(where)
    return columns


def check_columns(present: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Raise InputError unless each wanted column is present exactly once."""
    for name in wanted:
        if present.count(name) != 1:
            problem = f"has no column `{name}`" if name not in present else f"has several columns `{name}`"
            raise InputError(where, problem, f"it has: {', '.join(map(str, present))}; name one under `columns`")


def _empty(where: str) -> InputError:
    return InputError(where, "holds no rows", "check the path, or that the file was written to its end")


def _decode(content: bytes, encoding: str, where: str) -> str:
    # Spreadsheets put a byte order mark before UTF-8, which would become part of the first column's name.
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    try:
        return content.decode(codec)
    except UnicodeError as error:
        position = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise InputError(
            where, f"not {encoding} text{position}", "set the data set's `encoding`, for instance latin-1 or cp1252"
        ) from None


def _delimited(text: str, wanted: Sequence[str], where: str, delimiter: str, header_rows: int) -> Columns:
    csv.field_size_limit(2**31 - 1)  # the default of 131,072 characters is shorter than some posts
    # strict: otherwise a quote that is never closed swallows the rest of the file in silence.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise InputError(
            where, f"line {reader.line_num}: {error}", 'write a quote inside a quoted field as ""'
        ) from None
    if not any(rows):
        raise _empty(where)
    header, body = rows[0], [row for row in rows[header_rows:] if row]
    check_columns(header, wanted, where)
    for number, row in enumerate(body, start=1):
        if any(row[len(header) :]):
            raise InputError(
                where, f"data row {number} has {len(row)} fields and the header {len(header)}", "quote the field"
            )
    places = {name: header.index(name) for name in wanted}
    return {name: [row[i] if i < len(row) else None for row in body] for name, i in places.items()}


def _csv(text: str, wanted: Sequence[str], where: str) -> Columns:
    return _delimited(text, wanted, where, delimiter=",", header_rows=1)


def _tsv(text: str, wanted: Sequence[str], where: str) -> Columns:
    return _delimited(text, wanted, where, delimiter="\t", header_rows=1)


def _orange(text: str, wanted: Sequence[str], where: str) -> Columns:
    return _delimited(text, wanted, where, delimiter="\t", header_rows=ORANGE_HEADER_ROWS)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # Not str.splitlines, which also splits at characters that may stand inside a JSON string.
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            yield number, line


def _jsonl(text: str, wanted: Sequence[str], where: str) -> Columns:
    rows: list[dict[str, Any]] = []
    for number, line in _lines(text):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(where, f"line {number} is not JSON ({error.msg})", "write one object a line") from None
        if not isinstance(row, dict):
            raise InputError(where, f"line {number} is no object", 'write one object a line: {"text": ...}')
        rows.append(row)
    if not rows:
        raise _empty(where)
    check_columns(list(dict.fromkeys(name for row in rows for name in row)), wanted, where)
    return {name: [row.get(name) for row in rows] for name in wanted}


def _slots(text: str, wanted: Sequence[str], where: str) -> Columns:
    columns: Columns = {"text": [], "label": [], "tokens": [], "tags": []}
    check_columns(list(columns), wanted, where)
    for number, line in _lines(text):
        sentence, arrow, labels = line.rpartition(" <=> ")
        pairs = [word.rpartition(":") for word in sentence.split()]
        if not arrow or not all(word and tag for word, _, tag in pairs):
            raise InputError(where, f"line {number} is not `word:TAG word:TAG <=> label`", "mend the line")
        tokens = [word for word, _, _ in pairs]
        columns["text"].append(" ".join(tokens))
        columns["label"].append(labels.split(";")[0])  # several labels are joined with ";"
        columns["tokens"].append(tokens)
        columns["tags"].append([tag for _, _, tag in pairs])
    return {name: columns[name] for name in wanted}


def _bbq(text: str, wanted: Sequence[str], where: str) -> Columns:
    """Read the questions of BBQ (Parrish et al. 2022) that its context answers, and the answer as it stands there.

    The answer is None where the context words it otherwise.
    """
    check_columns(["text", "label", "question", "answers"], wanted, where)
    rows = _jsonl(text, BBQ_FIELDS, where)
    columns: Columns = {"text": rows["context"], "label": rows["category"], "question": rows["question"]}
    right = [f"ans{label}" for label in rows["label"]]
    columns["answers"] = [
        _as_worded(context, rows[answer][row])
        for row, (context, answer) in enumerate(zip(rows["context"], right, strict=True))
    ]
    answered = [
        condition == "disambig" and about[answer][1] != "unknown"
        for condition, about, answer in zip(rows["context_condition"], rows["answer_info"], right, strict=True)
    ]
    return {name: list(compress(columns[name], answered)) for name in wanted}


def read_metadata(content: bytes, kind: Format, encoding: str, where: str) -> Any:
    """Return what the second file of a format says of the rows of the others.

    Raises:
        InputError: Wrong encoding, broken format, a column or a split that is absent, or a place that is no number.
    """
    text = _decode(content, encoding, where)
    return _divisions(text, where) if kind == "hatexplain" else _bbq_metadata(text, where)


def _bbq_metadata(text: str, where: str) -> Metadata:
    """Read BBQ's `additional_metadata.csv`; some questions stand in it twice, and it says the same of them."""
    rows = _csv(text, ["category", "example_id", "target_loc", "label_type"], where)
    found: Metadata = {}
    for number, (category, identifier, place, kind) in enumerate(zip(*rows.values(), strict=True), start=1):
        if place not in ("0", "1", "2", "NA"):
            raise InputError(where, f"data row {number} has the target_loc {place!r}", "allowed: 0, 1, 2, NA")
        found[category, identifier] = (None if place == "NA" else int(place), kind == "name")
    return found


def _bbq_bias(metadata: Metadata, text: str, wanted: Sequence[str], where: str) -> Columns:
    """Read all questions of BBQ (Parrish et al. 2022) with their answers by the part that these play.

    The text is context and question. Of the two answers that name somebody, `stereotype` is the biased one: who a
    stereotype is of, or the other one where the question asks for its opposite. Both are None where the metadata do not
    say it. A label is a category, apart for people who are named.
    """
    columns: Columns = {name: [] for name in ("text", "label", "target", "template", "task", *PARTS)}
    check_columns(list(columns), wanted, where)
    rows = _jsonl(text, [*BBQ_FIELDS, "example_id", "question_index"], where)
    for number in range(len(rows["context"])):
        row = {name: values[number] for name, values in rows.items()}
        answers = [row[name] for name in ANSWERS]
        try:
            biased, named = metadata[row["category"], str(row["example_id"])]
            [unknown] = [place for place, name in enumerate(ANSWERS) if row["answer_info"][name][1] == UNKNOWN]
            others = {0, 1, 2} - {unknown}
            if biased is not None:
                others.remove(biased)
            other = None if biased is None else others.pop()
            context, right = CONTEXTS[row["context_condition"]], answers[row["label"]]
        except (KeyError, IndexError, TypeError, ValueError):
            problem = (
                f"data row {number + 1} has not one answer that leaves it open and, in `metadata`, one that is biased"
            )
            raise InputError(where, problem, "give the files of BBQ, as they were published") from None
        parts = {"stereotype": biased, "antistereotype": other, "unknown": unknown}
        columns["text"].append(f"{row['context']} {row['question']}")
        columns["label"].append(f"{row['category']}-names" if named else row["category"])
        columns["target"].append(right)
        columns["template"].append(f"{row['category']} {row['question_index']}")
        columns["task"].append(context)
        for name, place in parts.items():
            columns[name].append(None if place is None else answers[place])
    return {name: columns[name] for name in wanted}


def _stereoset(text: str, wanted: Sequence[str], where: str) -> Columns:
    """Read the items of StereoSet (Nadeem et al. 2021), those within a sentence first; a label is a type of bias."""
    columns: Columns = {name: [] for name in ("text", "label", "term", "task", *SENTENCES.values())}
    check_columns(list(columns), wanted, where)
    remedy = "give dev.json or test.json of StereoSet, as it was published"
    try:
        items = [(task, item) for task in TASKS for item in json.loads(text)["data"][task]]
        for number, (task, item) in enumerate(items, start=1):
            sentences = {SENTENCES[each["gold_label"]]: each["sentence"] for each in item["sentences"]}
            if len(sentences) < len(SENTENCES) or len(item["sentences"]) > len(SENTENCES):
                raise InputError(where, f"item {number} has not one sentence of each label", remedy)
            row = {"text": item["context"], "label": item["bias_type"], "term": item["target"], "task": task}
            for name, value in (row | sentences).items():
                columns[name].append(value)
    except json.JSONDecodeError as error:
        raise InputError(where, f"not JSON ({error})", remedy) from None
    except (KeyError, TypeError) as error:
        raise InputError(where, f"not laid out like StereoSet ({error})", remedy) from None
    return {name: columns[name] for name in wanted}


def _crows_pairs(text: str, wanted: Sequence[str], where: str) -> Columns:
    """Read the pairs of CrowS-Pairs (Nangia et al. 2020); a label is a type of bias.

    Its `sent_more` is the more stereotypical sentence in both directions, and the text here. The direction says whether
    it is the one about the disadvantaged group (`stereo`), or the one that is not (`antistereo`).
    """
    check_columns(["text", "label", "stereotype", "antistereotype", "direction"], wanted, where)
    rows = _csv(text, ["sent_more", "sent_less", "bias_type", "stereo_antistereo"], where)
    for number, direction in enumerate(rows["stereo_antistereo"], start=1):
        if direction not in DIRECTIONS:
            problem = f"data row {number} has the direction {direction!r}"
            raise InputError(where, problem, f"allowed: {', '.join(DIRECTIONS)}")
    columns: Columns = {"text": rows["sent_more"], "label": rows["bias_type"], "direction": rows["stereo_antistereo"]}
    columns |= {"stereotype": rows["sent_more"], "antistereotype": rows["sent_less"]}
    return {name: columns[name] for name in wanted}


def _bold(text: str, wanted: Sequence[str], where: str) -> Columns:
    """Read the prompts of BOLD (Dhamala et al. 2021) of one domain; a label is a group, a term whom a prompt is of."""
    check_columns(["text", "label", "term"], wanted, where)
    remedy = "give a file of the folder prompts of BOLD, as it was published"
    columns: Columns = {"text": [], "label": [], "term": []}
    try:
        for group, prompts_of in json.loads(text).items():
            for term, prompts in prompts_of.items():
                for prompt in prompts:
                    columns["text"].append(prompt.strip())
                    columns["label"].append(group)
                    columns["term"].append(term)
    except json.JSONDecodeError as error:
        raise InputError(where, f"not JSON ({error})", remedy) from None
    except (AttributeError, TypeError) as error:
        raise InputError(where, f"not laid out like BOLD ({error})", remedy) from None
    return {name: columns[name] for name in wanted}


def _divisions(text: str, where: str) -> dict[str, list[str]]:
    """Read HateXplain's `post_id_divisions.json`: our split -> names of its posts."""
    try:
        found = json.loads(text)
        return {split: [str(name) for name in found[theirs]] for split, theirs in DIVISIONS.items()}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        problem = f"not laid out like HateXplain's splits ({error})"
        raise InputError(where, problem, "give post_id_divisions.json, as it was published") from None


def _hatexplain(names: list[str], text: str, wanted: Sequence[str], where: str) -> Columns:
    """Read posts of HateXplain (Mathew et al. 2021) in the order of their names.

    The label is that of the majority of annotators, None where there is none; the groups are the communities that are
    named more than once. Source: `Preprocess/dataCollect.py` and `Bias_Calculation_NB.ipynb` of its code.
    """
    columns: Columns = {"text": [], "label": [], "tokens": [], "groups": []}
    check_columns(list(columns), wanted, where)
    remedy = "give dataset.json of HateXplain, as it was published, and its splits as `metadata`"
    try:
        posts = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(where, f"not JSON ({error})", remedy) from None
    for name in names:
        try:
            tokens, annotators = posts[name]["post_tokens"], posts[name]["annotators"]
            label = majority([annotator["label"] for annotator in annotators])
            groups = communities([annotator["target"] for annotator in annotators])
            columns["text"].append(" ".join(tokens))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(where, f"post {name!r} is not laid out like HateXplain's ({error})", remedy) from None
        columns["label"].append(label)
        columns["tokens"].append(tokens)
        columns["groups"].append(groups)
    return {name: columns[name] for name in wanted}


def majority(labels: Sequence[str]) -> str | None:
    """Return the label that more than half of HateXplain's annotators give; None if there is none.

    Of three who say hatespeech, offensive and normal once each, two find the post toxic and none is the majority:
    HateXplain leaves it out.

    Raises:
        ValueError: A label that HateXplain does not have.
    """
    if unknown := sorted(set(labels) - set(LABELS)):
        raise ValueError(f"label {unknown[0]!r}, and allowed are {', '.join(LABELS)}")
    return next((label for label, times in Counter(labels).items() if 2 * times > len(labels)), None)


def communities(targets: Sequence[Sequence[str]]) -> list[str]:
    """Return the communities that a post's annotators name more than once, in the order of their names.

    Args:
        targets: What each of the annotators names.
    """
    named = Counter(target for annotator in targets for target in annotator if target not in NO_COMMUNITY)
    return sorted(community for community, times in named.items() if times > 1)


def _as_worded(context: str, answer: str) -> str | None:
    """Return the first place in a context that reads as an answer, with or without its article; None if none does."""
    answer = answer.strip()
    for words in dict.fromkeys((answer, re.sub("^the ", "", answer, flags=re.IGNORECASE))):
        if found := re.search(rf"(?<!\w){re.escape(words)}(?!\w)", context, re.IGNORECASE):
            return found[0]
    return None


def _parquet(content: bytes, wanted: Sequence[str], where: str) -> Columns:
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            check_columns(file.schema_arrow.names, wanted, where)
            table = file.read(columns=list(wanted), use_threads=False)
    except pa.ArrowException as error:
        raise InputError(where, f"not parquet ({error})", "set the data set's `format`") from None
    return {name: table.column(name).to_pylist() for name in wanted}


_READERS: dict[str, Reader] = {
    "csv": _csv,
    "tsv": _tsv,
    "jsonl": _jsonl,
    "slots": _slots,
    "orange": _orange,
    "bbq": _bbq,
    "stereoset": _stereoset,
    "crows_pairs": _crows_pairs,
    "bold": _bold,
}
