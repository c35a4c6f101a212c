"""The sum of a round by secure aggregation: who masks what, what the server finds, and what is sent for it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stages.federate.client import Task
from stages.federate.engine import Reported
from stages.federate.population import Participant, answers
from stages.federate.quantisation import restored
from stages.federate.secure_aggregation import SecureRound
from stages.federate.settings import FederateSettings


class SecureSum:
    """Secure aggregation of one round.

    Args:
        settings: With `secure_aggregation`.
        cohort: At least one client; those without a step drop out once keys are exchanged and secrets shared.
        seed: Of all draws.
        number: Of the round.

    Raises:
        SettingError: See SecureRound.
    """

    def __init__(self, settings: FederateSettings, cohort: Sequence[Participant], seed: int, number: int) -> None:
        assert settings.secure_aggregation is not None
        self._settings = settings.secure_aggregation
        self._round = SecureRound(self._settings, [each.client for each in cohort], seed, number)
        self._sent = [each.client for each in cohort if each.steps]
        self._answering = {client for client in self._sent if answers(self._settings, seed, number, client)}

    def masked(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks of those that report with their masks, their weights such that the largest is 1."""
        largest = max(task.weight for task in tasks)
        return [
            task._replace(weight=task.weight / largest, masks=self._round.masks(client))
            for task, client in zip(tasks, self._sent, strict=True)
        ]

    def unmasked(self, reported: Reported, tasks: Sequence[Task]) -> Tensor:
        """Return the (P,) sum of the updates, each times its task's weight, in float64.

        Args:
            reported: Of the masked tasks.
            tasks: As they were.

        Raises:
            SettingError: Too few neighbours of a client answer.
        """
        words = reported.total.numpy().astype(np.uint32)
        self._round.unmask(words, self._sent, self._answering)
        return torch.from_numpy(restored(words, self._settings)) * max(task.weight for task in tasks)

    @property
    def bytes_up(self) -> int:
        """What clients send beside updates; a word of those takes as many bytes as the value it is made of."""
        return self._round.bytes_up(self._answering)

    @property
    def bytes_down(self) -> int:
        """What the server sends beside weights."""
        return self._round.bytes_down()
