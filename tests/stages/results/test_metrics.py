import math

from stages.results.metrics import METRICS


def test_every_metric_says_how_to_read_it():
    for metric in METRICS.values():
        # A target of 0 or 1 of a fraction is an end of its scale: `min` or `max`.
        target = isinstance(metric.best, float) and math.isfinite(metric.best)
        assert metric.best in ("max", "min", None) or (target and (metric.unit != "fraction" or 0 < metric.best < 1))
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)
