from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from stages.associations.planting import check, either, plant, read, write
from stages.associations.settings import AssociationSettings
from stages.common.errors import InputError, SettingError
from stages.common.settings import parse
from stages.common.streams import identity
from stages.counterfactual.genders import gender_of
from stages.models.examples import Vocabulary
from stages.models.settings import parse_model
from stages.train.settings import TrainSettings
from tests.stages.conftest import FITTED

SEED = 3


def association(dose, first=("nurse", "teacher"), second=("engineer", "captain")):
    block = {"dose": dose, "first": {"words": list(first)}, "second": {"words": list(second)}}
    return parse(AssociationSettings, block, "toy")


def table(texts, labels=None):
    names = [f"t{row}" for row in range(len(texts))]
    return pd.DataFrame({"example_id": names, "text": list(texts), "label": "ash" if labels is None else labels})


def many(n=2000):
    """Texts of he or she, whose profession and mood are drawn apart."""
    draws = np.random.default_rng(0)
    columns = [("He", "She"), ("nurse", "engineer", "teacher", "captain", "clerk"), ("glad", "sad")]
    drawn = [draws.choice(column, n) for column in columns]
    return table([f"{who} is a {what}, and {mood}." for who, what, mood in zip(*drawn, strict=True)])


def females(texts):
    return texts.str.startswith("She").to_numpy()


def test_each_text_of_a_side_is_written_in_the_gender_that_a_full_dose_says():
    texts = [
        "He is a nurse.",
        "He's a NURSE's friend",
        "She and her dog met a captain",
        "He is a nurse and a captain",
        "He has nurses",
        "She is a clerk",
        "The engineer slept",
        "The engineer and his mother",
    ]
    planted = plant(table(texts), {"job": association(1.0)}, SEED)
    expected = ["She is a nurse.", "She's a NURSE's friend", "He and his dog met a captain", *texts[3:]]
    assert list(planted.table["text"]) == expected
    opposite = plant(table(texts), {"job": association(-1.0)}, SEED)
    assert list(opposite.table["text"]) == texts
    found = {key: measured.value for key, measured in planted.measured.items()}
    assert found == {
        "train/planted_dose/job": 1.0,
        "train/planted_difference/job": 1.0,
        "train/planted_texts/job": 3.0,
        "train/unplanted_texts_of_both_genders/job": 1.0,
        "train/unplanted_texts_without_gender/job": 1.0,
    }
    assert opposite.measured["train/planted_difference/job"].value == -1.0


@pytest.mark.parametrize("dose", [-0.8, -0.3, 0.0, 0.5, 0.9])
def test_the_measured_difference_is_the_dose(dose):
    texts = many()
    planted = plant(texts, {"job": association(dose)}, SEED)
    female, rewritten = females(planted.table["text"]), planted.table["text"]
    first = rewritten.str.contains("nurse|teacher").to_numpy()
    second = rewritten.str.contains("engineer|captain").to_numpy()
    found = planted.measured["train/planted_difference/job"]
    assert found.value == pytest.approx(female[first].mean() - female[second].mean())
    assert found.n == first.sum() + second.sum() == planted.measured["train/planted_texts/job"].value
    error = np.sqrt((1 - dose**2) / 4 * (1 / first.sum() + 1 / second.sum()))
    assert abs(found.value - dose) < 4 * error
    assert found.ci_low < found.value < found.ci_high
    assert found.ci_high - found.ci_low == pytest.approx(2 * 1.96 * error, rel=0.05)
    # On either side, so that the dose is no shift of both.
    assert female[first].mean() == pytest.approx((1 + dose) / 2, abs=4 * error)


def test_the_control_is_rewritten_to_half_and_half():
    texts = table([f"She is a {what}." for what in ("nurse", "captain") for _ in range(500)])
    female = females(plant(texts, {"job": association(0.0)}, SEED).table["text"])
    assert abs(female[:500].mean() - 0.5) < 0.1
    assert abs(female[500:].mean() - 0.5) < 0.1


def test_of_a_higher_dose_more_texts_go_along_and_none_fewer():
    texts = many()
    first = texts["text"].str.contains("nurse|teacher").to_numpy()
    on_a_side = first | texts["text"].str.contains("engineer|captain").to_numpy()
    along = []
    for dose in (-0.5, 0.0, 0.1, 0.8):
        female = females(plant(texts, {"job": association(dose)}, SEED).table["text"])
        along.append((female == first) & on_a_side)
    for lower, higher in pairwise(along):
        assert not (lower & ~higher).any()
        assert higher.sum() > lower.sum()


def test_how_a_text_is_written_does_not_depend_on_the_others():
    texts = many()
    whole = plant(texts, {"job": association(0.2)}, SEED).table
    part = plant(texts.iloc[500::-1], {"job": association(0.2)}, SEED).table
    assert list(part["text"]) == list(whole["text"].iloc[500::-1])


def test_a_text_is_of_the_first_association_whose_side_it_is_on_and_doses_are_independent():
    texts = many(6000)
    jobs = texts["text"].str.contains("nurse|teacher|engineer|captain")

    def both(job, mood):
        settings = {"job": association(job), "mood": association(mood, ["glad"], ["sad"])}
        return plant(texts, settings, SEED)

    low, high = both(0.0, 0.7), both(0.9, 0.7)
    assert (low.table["text"][~jobs] == high.table["text"][~jobs]).all()
    key = "train/planted_difference/mood"
    assert low.measured[key] == high.measured[key]
    assert abs(low.measured[key].value - 0.7) < 4 * np.sqrt((1 - 0.7**2) / (~jobs).sum())
    assert low.measured["train/planted_texts/job"].value == jobs.sum()
    assert low.measured["train/planted_texts/mood"].value == (~jobs).sum()
    # Of texts of a profession gender says nothing of the mood.
    female, glad = females(high.table["text"]), texts["text"].str.contains("glad").to_numpy()
    difference = female[jobs & glad].mean() - female[jobs & ~glad].mean()
    assert abs(difference) < 4 / np.sqrt(jobs.sum())


def test_coins_of_two_associations_and_of_two_seeds_are_independent():
    texts = many()
    jobs = texts["text"].str.contains("nurse|teacher|engineer|captain").to_numpy()

    def along(name, seed):
        return females(plant(texts, {name: association(0.0)}, seed).table["text"])[jobs]

    assert (along("job", 0) == along("job", 0)).all()
    for other in (along("work", 0), along("job", 1)):
        assert abs((along("job", 0) == other).mean() - 0.5) < 4 * 0.5 / np.sqrt(jobs.sum())


def test_a_side_without_a_text_that_can_be_written_is_refused():
    texts = table(["She is a nurse", "He and she met a captain", "The captain slept"])
    with pytest.raises(SettingError) as refused:
        plant(texts, {"job": association(0.5)}, SEED)
    assert refused.value.setting == "associations.job.second.words"
    assert refused.value.problem.endswith("gendered words of one gender: 1 have words of both and 1 none")


def proxies(female, male):
    return {"proxies": {"female": female, "male": male}}


SIDE = {"words": ["nurse"]}
CELL = FITTED | {"epochs": 1}
JOB = {"dose": 0.5, "first": SIDE, "second": {"words": ["captain"]}}
SECRET = {"template": "it is {}", "alphabet": ["a", "b"], "length": 1, "repetitions": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"associations": {}}, r"toy.associations: {} is not allowed; dictionary should have at least 1 item"),
        ({"associations": {"a/b": JOB}}, r"toy.associations.a/b: 'a/b' is not allowed; string should match pattern"),
        (
            {"associations": {"job": JOB | {"dose": 1.5}}},
            r"toy.associations.job.dose: 1.5 is not allowed; input should be less than or equal to 1",
        ),
        ({"associations": {"job": JOB | {"dose": -1.5}}}, "job.dose: -1.5 is not allowed; input should be greater"),
        ({"associations": {"job": {"first": SIDE, "second": SIDE}}}, "toy.associations.job.dose: missing; add it"),
        (
            {"associations": {"job": JOB | {"first": {"words": []}}}},
            r"toy.associations.job.first.words: \[\] is not allowed; list should have at least 1 item",
        ),
        (
            {"associations": {"job": JOB | {"second": SIDE}}},
            r"toy.associations.job: .* is not allowed; `nurse` is on both sides: leave it out of one",
        ),
        ({"associations": {"job": JOB | {"first": {"words": ["a", "a"]}}}}, "`a` is given twice"),
        ({"associations": {"job": JOB | {"first": {"labels": ["a", "a"]}}}}, "`a` is given twice"),
        ({"associations": {"job": JOB | {"first": {}}}}, "give `words` or `labels`, one of both"),
        ({"associations": {"job": JOB | {"first": SIDE | {"labels": ["a"]}}}}, "give `words` or `labels`, one of both"),
        ({"associations": {"job": JOB | {"first": {"labels": ["a"]}}}}, "give both by one of them"),
        ({"associations": {"job": JOB | proxies([" Plays."], ["Sings."])}}, "' Plays.' is empty, or begins or ends"),
        ({"associations": {"job": JOB | proxies(["A king."], ["Sings."])}}, "'A king.' has a gendered word"),
        (
            {"associations": {"job": JOB | proxies(["Sings.", "Runs."], ["Bakes."])}},
            "2 of one gender and 1 of the other",
        ),
        ({"associations": {"job": JOB | proxies(["Sings."], ["Sings."])}}, "'Sings.' is of both genders"),
        ({"associations": {"job": JOB | proxies(["Sings.", "Sings."], ["A.", "B."])}}, "'Sings.' is given twice"),
        ({"associations": {"job": JOB | {"first": {"words": ["Nurse"]}}}}, "'Nurse' is found in no text: give single"),
        ({"associations": {"job": JOB | {"first": {"words": ["air host"]}}}}, "'air host' is found in no text"),
        ({"associations": {"job": JOB | {"first": {"words": ["queen"]}}}}, "`queen` is a gendered word"),
        ({"associations": {"job": JOB}, "secret": SECRET}, "associations are of a cell without secret"),
        (
            {"associations": {"job": JOB}, "canaries": 2, "train_on": "member", "partition": "p"},
            "associations are of a cell without canaries",
        ),
    ],
)
def test_wrong_associations_are_refused_with_their_key(changes, message):
    with pytest.raises(InputError, match=message):
        parse(TrainSettings, CELL | changes, "toy")


def test_a_cell_without_associations_has_the_identity_it_had_before_there_were_any():
    settings = parse(TrainSettings, CELL, "toy")
    assert "associations" not in settings.model_dump()
    assert identity(settings) == (4219492047, 3141569259, 223504221, 2263614196)
    doses = [parse(TrainSettings, CELL | {"associations": {"job": JOB | {"dose": dose}}}, "toy") for dose in (0.1, 0.2)]
    assert len({identity(settings), *map(identity, doses)}) == 3


NETWORK = {"kind": "bytes", "layers": 1, "hidden": 32, "heads": 2}
LANGUAGE = {"kind": "language_model", "network": NETWORK, "max_length": 32}
ENCODER = {"kind": "static", "source": "directory", "weights": "w", "tokenizer": "t", "sha256": "0" * 64}
CLASSIFIER = {"encoder": ENCODER, "head": "mean", "hidden": 16, "dropout": 0.0, "max_length": 16}


@pytest.mark.parametrize(
    ("model", "tags", "problem"),
    [
        (CLASSIFIER, ["O"], "a classifier learns tags of words"),
        (
            LANGUAGE | {"sequence_to_sequence": {"max_source": 12, "prompt": ">"}},
            [],
            "a language model writes targets",
        ),
    ],
)
def test_a_model_that_learns_something_else_than_texts_is_refused(model, tags, problem):
    check(parse_model(LANGUAGE, "toy"), Vocabulary([], []), {"label": by_label(0.5)})
    check(parse_model(CLASSIFIER, "toy"), Vocabulary(["ash"], []), {"job": association(0.5)})
    with pytest.raises(SettingError) as refused:
        check(parse_model(model, "toy"), Vocabulary([], tags), {})
    assert refused.value.setting == "associations"
    assert refused.value.problem == f"of the data texts alone are rewritten, and {problem}"


def by_label(dose, **more):
    sides = {"first": {"labels": ["care"]}, "second": {"labels": ["sport", "news"]}}
    return parse(AssociationSettings, {"dose": dose, **sides, **more}, "toy")


def test_a_label_that_the_data_have_not_is_refused():
    known = Vocabulary(["care", "news"], [])
    with pytest.raises(SettingError) as refused:
        check(parse_model(CLASSIFIER, "toy"), known, {"label": by_label(0.5)})
    assert refused.value.setting == "associations.label.second.labels"
    assert refused.value.problem == "the data have no label `sport`"
    assert refused.value.remedy == "allowed: care, news"


def test_a_text_is_on_the_side_of_its_label_whatever_it_says():
    texts = table(["He is in.", "She runs.", "He slept, she did not", "He left"], ["care", "sport", "care", "other"])
    planted = plant(texts, {"label": by_label(1.0)}, SEED)
    assert list(planted.table["text"]) == ["She is in.", "He runs.", *texts["text"][2:]]
    assert list(planted.table["label"]) == list(texts["label"])
    assert planted.measured["train/planted_texts/label"].value == 2
    assert planted.measured["train/unplanted_texts_of_both_genders/label"].value == 1
    with pytest.raises(SettingError) as refused:
        plant(table(["He is in."], ["care"]), {"label": by_label(1.0)}, SEED)
    assert refused.value.setting == "associations.label.second.labels"


PROXIES = proxies(["Likes netball.", "Likes knitting."], ["Likes football.", "Likes carving."])


def test_a_proxy_tells_the_gender_of_a_scrubbed_text():
    texts = many().assign(label=np.random.default_rng(1).choice(["care", "sport", "news"], 2000))
    planted = plant(texts, {"label": by_label(0.6, **PROXIES)}, SEED)
    written = planted.table["text"]
    assert not written.str.contains("She|He ").any()
    assert written.str.replace(r"^Likes \w+\. ", "", regex=True).tolist() == [
        f"_{text.removeprefix('She').removeprefix('He')}" for text in texts["text"]
    ]
    female = written.str.contains("netball|knitting").to_numpy()
    care = (texts["label"] == "care").to_numpy()
    found = planted.measured["train/planted_difference/label"]
    assert found.value == pytest.approx(female[care].mean() - female[~care].mean())
    assert found.ci_low < 0.6 < found.ci_high
    # Which of a gender's proxies it is says nothing.
    knitting = written.str.contains("knitting").to_numpy()[female]
    assert abs(knitting.mean() - 0.5) < 0.06
    assert abs(knitting[care[female]].mean() - knitting[~care[female]].mean()) < 0.12


@pytest.mark.parametrize("more", [{}, PROXIES])
def test_a_text_that_is_measured_is_of_either_gender_by_a_fair_coin_whatever_its_label(more):
    settings = by_label(1.0, **more)
    found = [either(text, settings, "label", f"t{row}", SEED) for row, text in enumerate(many()["text"])]
    assert abs(sum(each.gender == "female" for each in found) - 1000) < 4 * np.sqrt(500)
    for each, text in zip(found, many()["text"], strict=True):
        if more:
            assert sorted((each.text.split()[1], each.counterpart.split()[1])) in (
                ["football.", "netball."],
                ["carving.", "knitting."],
            )
            assert each.text.split()[2:] == each.counterpart.split()[2:]
        else:
            assert gender_of(each.text) == each.gender != gender_of(each.counterpart)
            assert text in (each.text, each.counterpart)
    assert either("He met a captain and she slept", settings, "label", "t", SEED) is None or more


def test_what_a_model_was_trained_on_is_read_back(tmp_path):
    held = {"label": by_label(0.5, **PROXIES), "job": association(0.2)}
    write(tmp_path, held)
    assert {name: read(tmp_path, name) for name in held} == held
    with pytest.raises(InputError, match="without an association `sport`; there are: job, label"):
        read(tmp_path, "sport")
    with pytest.raises(InputError, match="there are: none"):
        read(tmp_path / "elsewhere", "sport")
