from stages.results.metrics import METRICS


def test_every_metric_says_how_to_read_it():
    assert all(metric.best in ("max", "min", None) or 0 < metric.best < 1 for metric in METRICS.values())
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)
