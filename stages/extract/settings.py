"""Settings of one extraction cell: `<study>.extract` in params.yaml."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stages.common.measurements import Role
from stages.common.references import Refers
from stages.common.settings import Settings
from stages.measuring.settings import MeasureSettings


class SearchSettings(Settings):
    """What both searches in a classifier have.

    Attributes:
        starts: How many are improved at once; the best answer of all counts.
        label_knowledge: Whether the attacker knows the canary's intent and tags. If not, those that the model itself
            finds most likely stand in for them: a code is then as good as the model is sure of anything.
    """

    starts: int = Field(10, ge=1)
    label_knowledge: bool = True


class GradientSearchSettings(SearchSettings):
    """By the loss of the canary's intent and tags, through its gradients (stages/extract/gradient_search.py).

    Attributes:
        kind: Names it.
        steps: Of Adam, at most.
        learning_rate: Of Adam.
        temperature: T of the softmax that mixes candidates, for Adam.
        gumbel: Whether each step of Adam adds Gumbel noise to the logits.
    """

    kind: Literal["gradients"] = "gradients"
    steps: int = Field(1000, ge=1)
    learning_rate: float = Field(0.02, gt=0)
    temperature: float = Field(1.0, gt=0)
    gumbel: bool = False


class TokenSearchSettings(SearchSettings):
    """By the loss of the canary's intent alone, trying tokens (stages/extract/token_search.py).

    Attributes:
        kind: Names it.
        passes: Over the words of the secret, at most.
    """

    kind: Literal["tokens"] = "tokens"
    passes: int = Field(100, ge=1)


class ExtractSettings(MeasureSettings):
    """The secrets of the models of a cell of `train` that hides some are completed; each seed is a trial with its own.

    Attributes:
        target: The cell of `<study>.train` whose models are attacked; each value of an axis names its own.
        role: How tables name the cell's part; that of the cell of train if None.
        search: In a classifier, by gradients if None; a language model is not searched.
    """

    folder: ClassVar[str] = "extractions"
    target: Annotated[str, Refers("train", named="values")]
    role: Role | None = None
    search: Annotated[GradientSearchSettings | TokenSearchSettings, Field(discriminator="kind")] | None = None
