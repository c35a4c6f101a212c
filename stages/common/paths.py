"""Where stages write, from the root of the project. Imports nothing of ours, so that anything may import it."""

from pathlib import Path

DATA = Path("data")
PREPARED = DATA / "prepared"
PARTITIONS = DATA / "partitions"
MODELS = DATA / "models"
METRICS = Path("reports/metrics")
CURVES = Path("reports/curves")
TIMINGS = Path("reports/timings")


def prepared_path(dataset: str, split: str) -> Path:
    """Return where prepare writes a split."""
    return PREPARED / dataset / f"{split}.parquet"


def partition_path(partition: str) -> Path:
    """Return where partition writes who holds what."""
    return PARTITIONS / partition / "clients.parquet"
