"""Independent random streams: each is named by its seed, its purpose and what it is drawn for."""

import hashlib
import json
import zlib

import numpy as np
from pydantic import BaseModel


def stream(seed: int, purpose: str, *indices: int) -> np.random.SeedSequence:
    """Return the seed sequence of (seed, purpose, indices); two that differ anywhere are independent.

    The number of indices is part of the key: numpy pads keys with zeros, so that [3, 4] and [3, 4, 0] are one.
    """
    return np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), len(indices), *indices])


def identity(settings: BaseModel) -> tuple[int, ...]:
    """Return four integers of all that settings say but their seeds and role, for a stream that cells must not share.

    What several releases guarantee together adds up only if their noise, and who is sampled, are independent: with the
    noise of one in another, their difference has none.
    """
    said = json.dumps(settings.model_dump(mode="json", exclude={"seeds", "role"}), sort_keys=True)
    return tuple(np.frombuffer(hashlib.sha256(said.encode()).digest()[:16], ">u4").tolist())


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Return numpy's generator on a stream."""
    return np.random.default_rng(stream(seed, purpose, *indices))


def torch_seed(seed: int, purpose: str, *indices: int) -> int:
    """Return an integer below 2**63 of a stream, for torch's generators."""
    return int(stream(seed, purpose, *indices).generate_state(1, np.uint64)[0] >> 1)
