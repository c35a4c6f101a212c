"""Settings of what words are swapped: `swaps` of a verb in params.yaml."""

from pathlib import Path

from pydantic import Field

from stages.common.settings import Settings


class SwapSettings(Settings):
    """Files of tab-separated word pairs, inside an installed package or, without `package`, local."""

    package: str | None = None
    paths: list[str] = Field(min_length=1)

    def inputs(self) -> list[Path]:
        """Return the files of these that are local: dvc.yaml must declare them."""
        return [] if self.package else [Path(path) for path in self.paths]
