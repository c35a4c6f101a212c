import pytest
import torch

from stages.common.pool import PROCESSES
from stages.measuring.seeds import measure_seeds


def mode(seed: int, item: str, shared: str) -> tuple[int, str, str, int]:
    return seed, item, shared, torch.get_deterministic_debug_mode()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_each_seed_is_measured_in_a_process_that_computes_the_same_bits(
    processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROCESSES, processes)
    found = measure_seeds(mode, {3: "three", 5: "five"}, "shared")
    assert found == {3: (3, "three", "shared", 2), 5: (5, "five", "shared", 2)}
