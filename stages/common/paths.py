"""Where stages write, from the root of the project. Imports nothing, so that anything may import it."""

from pathlib import Path

PREPARED = Path("data/prepared")
PARTITIONS = Path("data/partitions")
MODELS = Path("data/models")
ATTACKS = Path("data/attacks")
SCORES = Path("data/scores")
METRICS = Path("reports/metrics")
CURVES = Path("reports/curves")
TIMINGS = Path("reports/timings")
