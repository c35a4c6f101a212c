"""Settings of one scoring cell: `<study>.score` in params.yaml."""

from pydantic import Field

from stages.common.settings import Seeds, Settings


class SwapSettings(Settings):
    """Files of tab-separated word pairs, inside an installed package or, without `package`, local."""

    package: str | None = None
    paths: list[str] = Field(min_length=1)


class ScoreSettings(Settings):
    """Fairness of the models of the fitted cell of the same name.

    Group rates are those of `positive_label`; data without a `group` column need none.
    """

    dataset: str
    seeds: Seeds
    positive_label: str | None = None
    swaps: SwapSettings
