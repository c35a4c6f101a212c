"""Settings of one scoring cell: `<study>.score` in params.yaml."""

from abc import abstractmethod
from collections.abc import Container
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from stages.common.errors import SettingError
from stages.common.paths import MODELS, prepared_path
from stages.common.settings import Settings
from stages.counterfactual.settings import SwapSettings
from stages.measuring.settings import MeasureSettings
from stages.models.settings import (
    AnyModelSettings,
    LanguageModelSettings,
    MaskedLanguageModelSettings,
    PretrainedNetwork,
    Weights,
    WordNetwork,
    WordsEncoder,
)

# What a template has in place of words.
TARGET, ATTRIBUTE = "[TARGET]", "[ATTRIBUTE]"
Word = Annotated[str, Field(pattern=r"^\S(.*\S)?$")]
# A part of the names of metrics.
PartName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class KindSettings(Settings):
    """What every kind of measurement says of the models and the data that it can measure.

    Attributes:
        models: What they are called in messages.
        roles: Columns that the data need for it, besides text and label.
        dataset: What it measures on; None for the study's.
    """

    models: ClassVar[str]
    roles: ClassVar[tuple[str, ...]] = ()
    dataset: str | None = None

    @classmethod
    @abstractmethod
    def takes(cls, model: AnyModelSettings) -> bool:
        """Return whether it can measure models of these settings."""

    def lacks(self, columns: Container[str]) -> str | None:
        """Return the first of the columns that it needs which data with these do not have."""
        return next((role for role in self.roles if role not in columns), None)

    def inputs(self, dataset: str) -> list[Path]:
        """Return what it reads besides the models: test examples, and what else there is."""
        return [prepared_path(dataset, "test")]


class OfLanguageModels(KindSettings):
    """What can be measured of language models that say of any token how likely it is: masked ones, and causal ones."""

    models = "masked language models, and causal ones of network.kind bytes or pretrained"

    @classmethod
    def takes(cls, model: AnyModelSettings) -> bool:
        """See the base: a network of words takes all words outside its vocabulary for one."""
        if isinstance(model, MaskedLanguageModelSettings):
            return True
        return isinstance(model, LanguageModelSettings) and not isinstance(model.network, WordNetwork)


class WithoutData(KindSettings):
    """What reads no data."""

    @model_validator(mode="after")
    def _no_data_are_read(self) -> Self:
        if self.dataset is not None:
            raise ValueError(f"`dataset` {self.dataset} would not be read: leave it out")
        return self

    def inputs(self, dataset: str) -> list[Path]:
        """See the base: nothing."""
        del dataset
        return []


class PredictionSettings(KindSettings):
    """Group rates and counterfactual flips, by what a classifier predicts (stages/score/predictions.py).

    Attributes:
        positive_label: Whose rates are compared between groups; data without a `group` column need none.
        swaps: The words that are swapped in counterfactual texts.
    """

    models = "classifiers"
    positive_label: str | None = None
    swaps: SwapSettings

    @classmethod
    def takes(cls, model: AnyModelSettings) -> bool:
        """See the base."""
        return model.classifies

    def inputs(self, dataset: str) -> list[Path]:
        """See the base: also local lists of words."""
        return [*super().inputs(dataset), *self.swaps.inputs()]


# What a group's texts are held against (stages/score/group_auc.py).
Background = Literal["jigsaw", "hatexplain"]


class GroupAucSettings(KindSettings):
    """AUCs of a classifier's scores of toxic text, by the groups that texts name (stages/score/group_auc.py).

    Attributes:
        positive_labels: The labels of toxic texts; the score is the probability of them together.
        background: Of a group: all texts outside it, or those of the other groups.
        groups: Those that are compared; all that the test texts name, if left out.
        minimum: The fewest toxic and the fewest other texts of a group, and of its background.
        power: Of the generalised means: the lower, the more count the lowest AUCs.
    """

    models = "classifiers"
    roles = ("groups",)
    positive_labels: Annotated[list[Word], Field(min_length=1)]
    background: Background
    groups: Annotated[list[Word], Field(min_length=1)] | None = None
    minimum: int = Field(ge=1)
    power: float = Field(default=-5.0, lt=0)

    @model_validator(mode="after")
    def _each_is_named_once(self) -> Self:
        for names in (self.positive_labels, self.groups or []):
            if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
                raise ValueError(f"{', '.join(repeated)}: name each once")
        return self

    @classmethod
    def takes(cls, model: AnyModelSettings) -> bool:
        """See the base."""
        return model.classifies

    def lacks(self, columns: Container[str]) -> str | None:
        """See the base: a column with one group of each text does, too."""
        return None if "group" in columns else super().lacks(columns)


# A fitted cell of any study.
StudyCell = Annotated[str, Field(pattern="^[^/]+/[^/]+$")]


class SensitivitySettings(KindSettings):
    """How strongly a classifier's predictions react to tokens that tell a protected attribute (sensitivity.py).

    Attributes:
        swaps: Pairs of words, those of the lexicon, which are swapped in counterfactual texts.
        status: By name, `<study>/<cell>` of a classifier of the protected attribute; that of the same seed is asked.
        association: Of the models' training texts, by which it is known whose decision depends on gender.
        minimum: The fewest texts whose decision depends on it, and the fewest others, that are told apart.
    """

    models = "classifiers"
    swaps: SwapSettings
    status: dict[PartName, StudyCell] = Field({})
    association: str | None = None
    minimum: int = Field(default=10, ge=2)

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        if taken := [name for name in self.status if name in ("lexicon", "uniform", "random")]:
            raise ValueError(f"`{taken[0]}` in `status` is the name of other weights: give another")
        return self

    @classmethod
    def takes(cls, model: AnyModelSettings) -> bool:
        """See the base."""
        return model.classifies

    def inputs(self, dataset: str) -> list[Path]:
        """See the base: also status models, and local lists of words."""
        return [*super().inputs(dataset), *(MODELS / cell for cell in self.status.values()), *self.swaps.inputs()]


class StereoSetSettings(OfLanguageModels):
    """Language modeling score, stereotype score and ICAT of items of StereoSet (stages/score/stereoset.py)."""

    roles = ("stereotype", "antistereotype", "unrelated", "term", "task")


class CrowsPairsSettings(OfLanguageModels):
    """How often the stereotypical sentence of a pair of CrowS-Pairs is the likelier (stages/score/crows_pairs.py)."""

    roles = ("stereotype", "antistereotype", "direction")


class Sides(Settings):
    """Words, or groups, of two sides.

    Attributes:
        first: Those that a stereotype puts together, where there are two pairs of sides.
        second: Likewise.
    """

    first: Annotated[list[Word], Field(min_length=1)]
    second: Annotated[list[Word], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        words = [*self.first, *self.second]
        if repeated := [word for word in dict.fromkeys(words) if words.count(word) > 1]:
            raise ValueError(f"{', '.join(repeated)}: name each word once, on one side")
        return self

    def given(self) -> dict[str, list[str]]:
        """Return side -> its words."""
        return {"first": self.first, "second": self.second}


class Scorer(Weights):
    """A sequence classifier that tells what a written text is (stages/score/scorers.py).

    Attributes:
        path: Of the folder that transformers writes.
        max_length: At how many tokens texts are cut.
    """

    path: str = "."
    max_length: int = Field(ge=3)

    @abstractmethod
    def told(self) -> list[str]:
        """Return the labels of its model that are looked at."""


class ToxicityScorer(Scorer):
    """What a toxic text is: one that has at least one of `labels`."""

    labels: Annotated[list[Word], Field(min_length=1)]

    def told(self) -> list[str]:
        """See the base."""
        return self.labels


class RegardScorer(Scorer):
    """Regard (Sheng et al. 2019), how a text makes one think of whom it is about: labels `positive` and `negative`."""

    positive: Word
    negative: Word

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.positive == self.negative:
            raise ValueError(f"`positive` and `negative` are both {self.positive!r}: name two labels")
        return self

    def told(self) -> list[str]:
        """See the base."""
        return [self.positive, self.negative]


class BoldSettings(OfLanguageModels):
    """What a model writes behind prompts of BOLD, by group: gender, sentiment and more (stages/score/bold.py).

    Attributes:
        tokens: The most that are written behind a prompt.
        top_k: From how many of the likeliest tokens one is drawn.
        continuations: How many texts are written behind each prompt.
        least: The fewest texts of a group, or of a side of a contrast, that is measured.
        vectors: Of words, whose gender is told by them, hard-debiased; BOLD's are word2vec's.
        contrasts: By name, groups whose texts are compared.
        toxicity: A model that tells toxic texts, if there is one.
        regard: A model that tells the regard of texts, if there is one.
    """

    tokens: int = Field(ge=1)
    top_k: int = Field(ge=1)
    continuations: int = Field(1, ge=1)
    least: int = Field(ge=2)
    vectors: WordsEncoder
    contrasts: dict[PartName, Sides] = Field({})
    toxicity: ToxicityScorer | None = None
    regard: RegardScorer | None = None


class BbqSettings(KindSettings):
    """Accuracy and bias of the answers to BBQ's questions that are found likeliest (stages/score/bbq.py).

    Attributes:
        minimum: The fewest questions in either context of a category that is measured.
    """

    models = "causal language models of network.kind bytes or pretrained"
    roles = ("target", "stereotype", "antistereotype", "unknown", "template", "task")
    minimum: int = Field(default=30, ge=1)

    @classmethod
    def takes(cls, model: AnyModelSettings) -> bool:
        """See the base."""
        return isinstance(model, LanguageModelSettings) and not isinstance(model.network, WordNetwork)


class LogProbabilityBiasTest(Settings):
    """Words of two groups, and what may be said of them.

    Attributes:
        templates: Sentences with [TARGET] and [ATTRIBUTE], once each; before causal models, [ATTRIBUTE] comes first.
        targets: Words of two groups, of one token each, as `he` and `she`.
        attributes: What is said of them, as professions.
    """

    templates: Annotated[list[str], Field(min_length=1)]
    targets: Sides
    attributes: Sides

    @model_validator(mode="after")
    def _check(self) -> Self:
        for template in self.templates:
            if any(template.count(slot) != 1 for slot in (TARGET, ATTRIBUTE)):
                raise ValueError(f"the template {template!r} must have {TARGET} and {ATTRIBUTE}, once each")
        if len(set(self.templates)) < len(self.templates):
            raise ValueError("two of `templates` are alike: keep one")
        return self


class LogProbabilityBiasSettings(WithoutData):
    """Whether attributes make words of their own side likelier (stages/score/log_probability_bias.py).

    It needs no data.

    Attributes:
        tests: By name, what is asked.
    """

    models = "masked language models, and causal ones of network.kind pretrained"
    tests: dict[PartName, LogProbabilityBiasTest] = Field(min_length=1)

    @classmethod
    def takes(cls, model: AnyModelSettings) -> bool:
        """See the base: over bytes hardly any word is one token."""
        if isinstance(model, MaskedLanguageModelSettings):
            return True
        return isinstance(model, LanguageModelSettings) and isinstance(model.network, PretrainedNetwork)


class CombiningSettings(Settings):
    """How CEAT draws contexts and combines effect sizes (stages/score/association.py).

    The defaults are the paper's as far as they are known; `with_replacement`, `one` and `associations` are those of the
    released code.

    Attributes:
        samples: How many samples of one context for each word; the paper's N is 10,000.
        sampling: Whether a word with at least so many contexts may have one of them twice.
        sides: Of the p-value; one-sided it is that of an effect above 0.
        variance: What stands for that of a sample's effect size: the variance of its targets' associations, which is
            none of an effect size, or the sampling variance of the effect size.
    """

    samples: int = Field(default=10_000, ge=2)
    sampling: Literal["without_replacement", "with_replacement"] = "without_replacement"
    sides: Literal["two", "one"] = "two"
    variance: Literal["associations", "effect_size"] = "associations"


class StimuliSettings(Settings):
    """The words of an association test: those of one of the ten published tests, or two sets of targets and attributes.

    Attributes:
        number: Of WEAT's tests (Caliskan et al. 2017), whose words the package wefe has.
        x: Targets that are expected to go with `a`.
        y: Targets that are expected to go with `b`.
        a: Attributes.
        b: Attributes.
    """

    number: int | None = Field(None, ge=1, le=10)
    x: list[Word] = Field([])
    y: list[Word] = Field([])
    a: list[Word] = Field([])
    b: list[Word] = Field([])

    def given(self) -> list[list[str]]:
        """Return the four sets."""
        return [self.x, self.y, self.a, self.b]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.number is None) != all(self.given()) or (self.number is not None and any(self.given())):
            raise ValueError("give the `number` of a published test, or all of x, y, a and b")
        if twice := [word for words in self.given() for word in words if words.count(word) > 1]:
            raise ValueError(f"`{twice[0]}` stands twice in a set")
        if both := sorted(set(self.x) & set(self.y)) or sorted(set(self.a) & set(self.b)):
            raise ValueError(f"`{both[0]}` is in both sets of targets, or of attributes: leave it out of one")
        return self


class AssociationTests(OfLanguageModels):
    """What all association tests have.

    Attributes:
        tests: By name, the words.
    """

    tests: dict[PartName, StimuliSettings] = Field(min_length=1)


class WeatSettings(WithoutData, AssociationTests):
    """Association tests of the vectors that a model has for its tokens (stages/score/weat.py)."""


class SeatSettings(WithoutData, AssociationTests):
    """Association tests of the vectors of sentences (stages/score/seat.py).

    Attributes:
        target_templates: Sentences with one {}, where a target goes.
        attribute_templates: The same for attributes.
        pooling: A sentence's vector: the mean of the last states of its tokens, or the state of the first or last one.
    """

    target_templates: list[str] = Field(min_length=1)
    attribute_templates: list[str] = Field(min_length=1)
    pooling: Literal["mean", "first", "last"]


class CeatSettings(AssociationTests, CombiningSettings):
    """Association tests of words in the training texts of some data (stages/score/ceat.py).

    Attributes:
        contexts: The most texts that are read for a word, drawn by the seed.
    """

    contexts: int = Field(ge=1)

    def inputs(self, dataset: str) -> list[Path]:
        """See the base: training texts."""
        return [prepared_path(dataset, "train")]


class Measures(Settings):
    """What is measured, by kind; each has a module of its name, and writes a table of its name."""

    predictions: PredictionSettings | None = None
    sensitivity: SensitivitySettings | None = None
    group_auc: GroupAucSettings | None = None
    stereoset: StereoSetSettings | None = None
    crows_pairs: CrowsPairsSettings | None = None
    bold: BoldSettings | None = None
    bbq: BbqSettings | None = None
    log_probability_bias: LogProbabilityBiasSettings | None = None
    weat: WeatSettings | None = None
    seat: SeatSettings | None = None
    ceat: CeatSettings | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.given():
            raise ValueError(f"name one or more of: {', '.join(KINDS)}")
        return self

    def given(self) -> dict[str, KindSettings]:
        """Return kind -> settings of what is measured, in the order of the kinds."""
        return {kind: settings for kind, settings in self if settings is not None}


KINDS: dict[str, type[KindSettings]] = {
    kind: get_args(field.annotation)[0] for kind, field in Measures.model_fields.items()
}


class ScoreSettings(MeasureSettings):
    """Fairness of the models of the fitted cell of the same name.

    Attributes:
        dataset: The study's.
        seeds: Of the models.
        measures: What is measured of each model.
    """

    folder: ClassVar[str] = "scores"
    measures: Measures

    def data(self) -> dict[str, str]:
        """Return kind -> the data that it measures on."""
        own = {kind: settings.dataset for kind, settings in self.measures.given().items()}
        return {kind: self.dataset if dataset is None else dataset for kind, dataset in own.items()}

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides models, each once: dvc.yaml must declare it."""
        given = self.measures.given()
        return list(dict.fromkeys(path for kind, name in self.data().items() for path in given[kind].inputs(name)))

    def check(self, cell: str, model: AnyModelSettings) -> None:
        """Raise SettingError if what is measured is not of models like those of `cell`, which have these settings."""
        for kind, settings in self.measures.given().items():
            if not settings.takes(model):
                network = f" of network.kind {model.network.kind}" if isinstance(model, LanguageModelSettings) else ""
                problem = f"`{kind}` measures {settings.models}, and `{cell}` has {model.called}{network}"
                allowed = ", ".join(name for name, each in KINDS.items() if each.takes(model)) or "none"
                remedy = f"allowed of that model: {allowed}; or name a cell that has one of those"
                raise SettingError(f"measures.{kind}", problem, remedy)
