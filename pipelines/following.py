"""A run of another process, as the messages of `pipelines/display.py` tell it."""

import json
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.engine import Outcome


@dataclass(frozen=True)
class Followed:
    """One try of a stage, for a task to live through once more."""

    name: str
    _events: "queue.SimpleQueue[tuple[bool, str]]" = field(default_factory=queue.SimpleQueue)

    def follow(self, log: Callable[[str], None]) -> str:
        """Give each line to `log` as it is printed; return why the stage failed, or nothing, once it has ended."""
        while True:
            ended, text = self._events.get()
            if ended:
                return text
            log(text)

    def line(self, text: str) -> None:
        """Add a line."""
        self._events.put((False, text))

    def end(self, failed: str) -> None:
        """Say that it ended, and why it failed if it did."""
        self._events.put((True, failed))


class Following:
    """A run as its messages tell it.

    Args:
        messages: First what the run is about: `parameters` of the flow and `plan`, lines of text. Then what happens.
        has_page: Whether the server has pages.
    """

    def __init__(self, messages: Iterable[str], has_page: bool) -> None:
        self.has_page = has_page
        self._messages = iter(messages)
        about = json.loads(next(self._messages))
        self.parameters: Mapping[str, Any] = about["parameters"]
        self.plan: list[str] = about["plan"]
        self.begun = 0
        self.outcomes: list[Outcome] | None = None

    def stages(self) -> Iterator[Followed]:
        """Yield each try of a stage as it begins; after the last, `outcomes` is there unless the run was broken off."""
        running: dict[str, Followed] = {}
        for text in self._messages:
            match json.loads(text):
                case {"started": name}:
                    if name in running:
                        running[name].end("failed, and is tried again")
                    running[name] = Followed(name)
                    self.begun += 1
                    yield running[name]
                case {"line": name, "text": line}:
                    if name in running:
                        running[name].line(line)
                case {"ended": name, "failed": failed}:
                    if name in running:
                        running.pop(name).end(failed)
                case {"outcomes": outcomes}:
                    self.outcomes = [Outcome(**outcome) for outcome in outcomes]
        for stage in running.values():
            stage.end("the run was broken off")
