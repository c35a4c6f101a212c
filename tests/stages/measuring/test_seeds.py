import pytest
import torch

from stages.common.pool import PROCESSES
from stages.measuring.seeds import measure_seeds


def test_seeds_are_measured_where_nothing_may_give_other_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROCESSES, "1")
    torch.set_deterministic_debug_mode("default")

    def measured(seed: int, item: str, shared: str) -> tuple[int, str, str, int]:
        return seed, item, shared, torch.get_deterministic_debug_mode()

    found = measure_seeds(measured, {3: "three", 5: "five"}, "shared")
    assert found == {3: (3, "three", "shared", 2), 5: (5, "five", "shared", 2)}
