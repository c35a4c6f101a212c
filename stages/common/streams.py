"""Independent random streams: each is named by its seed, its purpose and what it is drawn for."""

import zlib

import numpy as np


def stream(seed: int, purpose: str, *indices: int) -> np.random.SeedSequence:
    """Return the seed sequence of (seed, purpose, indices); two that differ anywhere are independent.

    The number of indices is part of the key: numpy pads keys with zeros, so that [3, 4] and [3, 4, 0] are one.
    """
    return np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), len(indices), *indices])


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Return numpy's generator on a stream."""
    return np.random.default_rng(stream(seed, purpose, *indices))


def torch_seed(seed: int, purpose: str, *indices: int) -> int:
    """Return an integer below 2**63 of a stream, for torch's generators."""
    return int(stream(seed, purpose, *indices).generate_state(1, np.uint64)[0] >> 1)
