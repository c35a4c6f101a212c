"""Which examples each shadow model sees."""

import numpy as np
from numpy.typing import NDArray


def deal(examples: int, size: int, shadows: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return (shadows, examples) whether each model sees each example.

    Every model sees `size` examples at random, and every example is seen by as many models as any other, to one: an
    attack that compares the models that saw an example with those that did not has enough of both for each.
    """
    sees = np.zeros((shadows, examples), dtype=bool)
    deck = generator.permutation(examples)
    for row in sees:
        hand, deck = deck[:size], deck[size:]
        row[hand] = True
        if (missing := size - len(hand)) > 0:
            # The next round of the deck; what this model has already goes to the ones after it.
            deck = generator.permutation(examples)
            new = np.flatnonzero(~row[deck])[:missing]
            row[deck[new]] = True
            deck = np.delete(deck, new)
    return sees
