"""The verbs whose results are reported, in reading order: one table that the rest asks."""

from dataclasses import dataclass

ATTACKS = (
    "Attacks are membership inference, by a threshold on the loss unless another is named. That one is weak; LiRA and "
    "RMIA compare with shadow models, and are stronger where those were trained as the attacked model was. What an "
    "attack finds leaks; what none finds may leak all the same."
)
EXTRACTION = (
    "A secret is extracted by an attacker who has the model and the pattern around it. The oracle tries every code: "
    "what it misses is not lowest in loss, whatever the search. For whole secrets each seed is one trial, and the "
    "interval is Wilson's. Read both against the control, whose models never saw the secret."
)
INVERSION = (
    "A server sees the mean gradient of a batch of texts, and knows their lengths, labels and tags. Read off without "
    "any search are the bag of tokens, from the gradient of the token embeddings, and the order of a lone text, from "
    "that of the places; a batch takes a search. A guess draws tokens from the bag at random. Read all against the "
    "control, whose gradients are those of other texts."
)


@dataclass(frozen=True)
class Step:
    """A step of a study, which has a comparison table.

    Args:
        name: Of the table's file.
        title: Of the table.
        joint: Metrics of it that are columns of the joint table, in order.
        note: What is said of its numbers.
    """

    name: str
    title: str
    joint: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """A small series that a figure is drawn from: its file's name, and its columns of numbers and of names."""

    name: str
    numbers: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Verb:
    """A verb of a study.

    Args:
        name: Of the package under `stages`.
        step: The step of a study whose table shows what it measures.
        fits: Whether it leaves a model.
        trained: Whether its cells are cells of `train`, and of no other verb that leaves a model.
        targets: Whether its cells name the cell of `train` that they attack.
        guarantees: Whether what it attacks has a guarantee of its own, so that its cells have names of their own.
        any_model: Whether it takes models of any kind, not classifiers alone.
        curve: What a figure of it is drawn from, if it has one.
    """

    name: str
    step: Step
    fits: bool = False
    trained: bool = False
    targets: bool = False
    guarantees: bool = False
    any_model: bool = False
    curve: Curve | None = None

    @property
    def schema(self) -> str:
        """Where the class of its settings is, as `module:name`."""
        return f"stages.{self.name}.settings:{self.name.capitalize()}Settings"


# What all verbs that leave a model share.
TRAIN = Step(
    "train",
    "Train: what the models can do, and what their training guarantees",
    (
        *("accuracy", "macro_f1", "slot_f1", "exact_match", "answer_f1", "rouge1_f", "rouge2_f", "rougel_f"),
        *("perplexity", "masked_perplexity", "next_word_accuracy", "epsilon", "replace_one_epsilon", "claimed_epsilon"),
    ),
)
VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "partition",
            Step("partition", "Partition: who holds what"),
            curve=Curve("holdings", ("seed", "client", "count"), ("label",)),
        ),
        Verb("train", TRAIN, fits=True, any_model=True),
        Verb(
            "federate",
            TRAIN,
            fits=True,
            any_model=True,
            curve=Curve("history", ("seed", "step", "value"), ("metric",)),
        ),
        Verb("distill", TRAIN, fits=True),
        Verb(
            "shadow",
            Step("shadow", "Shadow: the models that attacks compare with, on the examples that each did not see"),
            trained=True,
        ),
        Verb(
            "attack",
            Step(
                "attack",
                "Attack: what an attacker finds",
                (
                    *("auc", "true_positive_rate_at_1_percent", "lira_auc", "lira_true_positive_rate_at_1_percent"),
                    *("rmia_auc", "rmia_true_positive_rate_at_1_percent", "rmia_true_positive_rate_at_0_1_percent"),
                    "rmia_epsilon_estimate",
                ),
                ATTACKS,
            ),
            curve=Curve("roc", ("seed", "false_positive_rate", "true_positive_rate"), ("method",)),
        ),
        Verb(
            "audit",
            Step("audit", "Audit: what canaries say of the epsilon that is stated", ("epsilon_lower_bound",)),
            trained=True,
        ),
        Verb(
            "extract",
            Step(
                "extract",
                "Extract: which secrets of the training text an attacker gets from the models",
                ("canary_accuracy", "oracle_accuracy", "canary_token_accuracy", "canary_exposure"),
                EXTRACTION,
            ),
            targets=True,
            any_model=True,
        ),
        Verb(
            "invert",
            Step(
                "invert",
                "Invert: what of private texts a server gets from the gradients that clients send",
                ("bag_recall", "token_accuracy", "rouge1", "rouge2", "rougel"),
                INVERSION,
            ),
            targets=True,
            guarantees=True,
        ),
        Verb(
            "score",
            Step(
                "score",
                "Score: how the models treat groups",
                (
                    *("true_positive_rate_gap", "false_positive_rate_gap", "counterfactual_flip_rate"),
                    *("prediction_sensitivity", "counterfactual_difference", "decisions_by_gender"),
                ),
            ),
        ),
    )
}
STEPS = {verb.step.name: verb.step for verb in VERBS.values()}
FITTING = tuple(verb.name for verb in VERBS.values() if verb.fits)
# Those with a grid in a study's block: a partition is shared by studies.
OF_STUDIES = tuple(name for name in VERBS if name != "partition")
