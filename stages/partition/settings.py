"""Settings of the verb `partition`: one block under `partitions` of params.yaml, chosen by its `scheme`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS, Seeds, Settings, block, parse
from stages.models.settings import Encoder

Positive = Annotated[float, Field(gt=0)]


class Membership(Settings):
    """Fractions of the pool dealt to members and to non-members; the rest is the reserve."""

    member: Positive
    nonmember: Positive

    @model_validator(mode="after")
    def _fits_the_pool(self) -> "Membership":
        if self.member + self.nonmember > 1:
            raise ValueError("member and nonmember must not add up to more than 1")
        return self


class Periods(Settings):
    """The examples in order of a text column, cut into `count` periods of about as many examples."""

    column: Annotated[str, Field(min_length=1)]
    count: Annotated[int, Field(ge=2)]


class _Partition(Settings):
    dataset: Annotated[str, Field(min_length=1)]
    seeds: Seeds
    membership: Membership | None = None
    periods: Periods | None = None


class Iid(_Partition):
    """Clients of equal size, dealt at random."""

    scheme: Literal["iid"]
    clients: PositiveInt


class LabelShift(_Partition):
    """Clients of equal size whose labels differ, the more the smaller `alpha` is (FedNLP's scheme)."""

    scheme: Literal["label_shift"]
    clients: PositiveInt
    alpha: Positive


class LabelDirichlet(_Partition):
    """Clients among whom each label is dealt by its own draw of shares, the less evenly the smaller `alpha` is."""

    scheme: Literal["label_dirichlet"]
    clients: PositiveInt
    alpha: Positive
    least: PositiveInt = 1


class Shards(_Partition):
    """Clients with a few shards each of the examples sorted by label, and so with a few labels."""

    scheme: Literal["shards"]
    clients: PositiveInt
    shards: PositiveInt


class FeatureShift(_Partition):
    """Label shift with clusters of the texts' vectors in the place of labels (FedNLP's scheme).

    Attributes:
        encoder: Gives the vectors: the mean of its states over the first `max_length` tokens.
        clusters: Number of them, found by k-means.
    """

    scheme: Literal["feature_shift"]
    clients: PositiveInt
    alpha: Positive
    clusters: Annotated[int, Field(ge=2)]
    encoder: Annotated[Encoder, Field(discriminator="kind")]
    max_length: Annotated[int, Field(ge=1, le=4096)]


class QuantityShift(_Partition):
    """Clients whose sizes differ, the more the smaller `beta` is, but hold `least` examples or more."""

    scheme: Literal["quantity_shift"]
    clients: PositiveInt
    beta: Positive
    least: PositiveInt = 1


class PowerLaw(_Partition):
    """Clients whose sizes follow Zipf's law, the less evenly the larger `exponent` is, but hold `least` or more."""

    scheme: Literal["power_law"]
    clients: PositiveInt
    exponent: Positive
    least: PositiveInt = 1


class Natural(_Partition):
    """One client per value of a column of the prepared table."""

    scheme: Literal["natural"]
    column: Annotated[str, Field(min_length=1)]


_Any = Iid | LabelShift | LabelDirichlet | Shards | FeatureShift | QuantityShift | PowerLaw | Natural
PartitionSettings = Annotated[_Any, Field(discriminator="scheme")]

SCHEMES: dict[str, type[_Any]] = {
    "iid": Iid,
    "label_shift": LabelShift,
    "label_dirichlet": LabelDirichlet,
    "shards": Shards,
    "feature_shift": FeatureShift,
    "quantity_shift": QuantityShift,
    "power_law": PowerLaw,
    "natural": Natural,
}


class _Choice(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    scheme: Literal[
        "iid", "label_shift", "label_dirichlet", "shards", "feature_shift", "quantity_shift", "power_law", "natural"
    ]


def read(parameters: dict[str, Any], name: str) -> PartitionSettings:
    """Return the validated settings of one partition.

    Args:
        parameters: The whole of params.yaml.
        name: Key under `partitions`.

    Raises:
        InputError: No such partition or data set, or a setting that is not allowed.
    """
    key = f"partitions.{name}"
    value = block(parameters, key)
    # The scheme first: an error then names the settings of this scheme, not of the union.
    settings = parse(SCHEMES[parse(_Choice, value, key).scheme], value, key)
    if settings.dataset not in (known := block(parameters, "datasets")):
        where = f"{PARAMETERS}: {key}.dataset"
        raise InputError(where, f"there is no data set `{settings.dataset}`", f"there are: {', '.join(known)}")
    return settings
