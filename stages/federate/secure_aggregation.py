"""Secure aggregation: the server learns the sum of a round's updates, and no update of one client.

SecAgg+ (Bell et al. 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead"), which is the protocol of
Bonawitz et al. 2017 along a random k-regular graph. Client u has a seed b_u and a pair of keys; with neighbour v it
agrees on a seed s_uv. It sends its quantised update x_u as

    y_u = x_u + PRG(b_u) + sum over v > u of PRG(s_uv) - sum over v < u of PRG(s_uv)   modulo 2^32

The masks of two clients that both send cancel in the sum. What is left the server removes: by the seed b_u of each
client that sent, and by the private key of each that did not. Any t of its neighbours can recover either, since they
hold Shamir shares of both. They never give those of both: one that was only slow would then be laid open.

Neither paper's text was at hand: the protocol is as it is commonly told. Keys are of X25519, PRG is AES-256 in counter
mode. Secrets follow from the seed, and so are none: for experiments only.
"""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from stages.common.errors import SettingError
from stages.common.streams import generator
from stages.federate.settings import SecureAggregation
from stages.federate.shamir import SECRET_BYTES, SHARE_BYTES, join, split

# Words that are masked at a time, so that they stay in the cache.
BLOCK = 2**14
ZEROS = bytes(4 * BLOCK)
# Of an authenticated cipher, which shares travel through the server in.
TAG_BYTES = 16

Words = NDArray[np.uint32]
Secret = Literal["seed", "key"]


class Masks(NamedTuple):
    """What a client masks its update with.

    Attributes:
        seed: Its own, b_u.
        key: Its private one.
        neighbours: The public key of each, and the sign of the mask that they share.
    """

    seed: bytes
    key: bytes
    neighbours: tuple[tuple[bytes, int], ...]


def mask(words: Words, masks: Masks) -> None:
    """Add a client's masks to its (P,) quantised update, in place."""
    _add(words, masks.seed, 1)
    key = X25519PrivateKey.from_private_bytes(masks.key)
    for public, sign in masks.neighbours:
        _add(words, _agreed(key, public), sign)


class Party:
    """A client of a round: its secrets, and the shares of them that its neighbours gave it.

    Args:
        draws: Of its secrets.

    Attributes:
        public: Its public key.
    """

    def __init__(self, draws: np.random.Generator) -> None:
        self._draws = draws
        self.seed, self.key = draws.bytes(SECRET_BYTES), draws.bytes(SECRET_BYTES)
        self.public = X25519PrivateKey.from_private_bytes(self.key).public_key().public_bytes_raw()
        self._held: dict[int, dict[Secret, int]] = {}
        self._given: dict[int, Secret] = {}

    def share(self, number: int, threshold: int, neighbours: "dict[int, Party]") -> None:
        """Give each neighbour its shares of both secrets of this client, whose number is given."""
        # A place is a client's number, and none may be 0, where the secret is.
        places = [other + 1 for other in neighbours]
        seeds, keys = (split(secret, threshold, places, self._draws) for secret in (self.seed, self.key))
        for other, party in neighbours.items():
            party._held[number] = {"seed": seeds[other + 1], "key": keys[other + 1]}

    def reveal(self, owner: int, secret: Secret) -> int:
        """Return its share of a secret of a neighbour.

        Raises:
            ValueError: It has given its share of that neighbour's other secret.
        """
        if self._given.setdefault(owner, secret) != secret:
            raise ValueError(f"a share of client {owner}'s {self._given[owner]} was given: one of its {secret} is not")
        return self._held[owner][secret]


class SecureRound:
    """The protocol of one round, after its first two steps: keys are known, and secrets shared among neighbours.

    Args:
        settings: Of the protocol.
        cohort: Clients, by number.
        seed: Of the graph and of all secrets.
        number: Of the round.

    Raises:
        SettingError: The cohort is too small for the threshold, or so large that its sum may overflow.
    """

    def __init__(self, settings: SecureAggregation, cohort: Sequence[int], seed: int, number: int) -> None:
        self._number, self._needed = number, settings.needed(len(cohort))
        if len(cohort) > settings.most_clients:
            problem = f"{len(cohort)} clients in round {number} of {settings.bits} bits overflow the sum's 32"
            raise SettingError("secure_aggregation.bits", problem, f"{settings.most_clients} do not; give fewer bits")
        if not 0 < self._needed < len(cohort):
            problem = f"{max(self._needed, 1)} is more than the {len(cohort) - 1} other clients of round {number}"
            raise SettingError("secure_aggregation.threshold", problem, "give a smaller one, or more clients per round")
        self._neighbours = regular_graph(cohort, settings.degree(len(cohort)), generator(seed, "neighbours", number))
        self.parties = {each: Party(generator(seed, "secure aggregation", number, each)) for each in cohort}
        for each, party in self.parties.items():
            party.share(each, self._needed, {other: self.parties[other] for other in self._neighbours[each]})

    def masks(self, client: int) -> Masks:
        """Return what a client masks its update with."""
        party = self.parties[client]
        shared = ((self.parties[other].public, _sign(client, other)) for other in self._neighbours[client])
        return Masks(party.seed, party.key, tuple(shared))

    def unmask(self, words: Words, sent: Collection[int], answering: Collection[int]) -> None:
        """Remove all masks from the (P,) sum of masked updates, in place.

        Args:
            words: Of the clients that sent, modulo 2^32.
            sent: Those clients.
            answering: Those of them that still give shares.

        Raises:
            SettingError: Too few neighbours of a client answer; then `words` are as they were.
        """
        helping = {each: [other for other in self._neighbours[each] if other in answering] for each in self.parties}
        for client, helpers in helping.items():
            if len(helpers) < self._needed:
                what = "sent its update" if client in sent else "dropped out"
                neighbours = len(self._neighbours[client])
                problem = f"in round {self._number} client {client} {what}, and {len(helpers)} of its {neighbours} "
                problem += f"neighbours answer, of whom {self._needed} are needed to remove its masks"
                remedy = "give a smaller threshold, more neighbours, or fewer drop-outs"
                raise SettingError("secure_aggregation.threshold", problem, remedy)
        for client, helpers in helping.items():
            if client in sent:
                _add(words, self._recover(client, "seed", helpers), -1)
                continue
            key = X25519PrivateKey.from_private_bytes(self._recover(client, "key", helpers))
            for other in self._neighbours[client]:
                if other in sent:
                    _add(words, _agreed(key, self.parties[other].public), -_sign(other, client))

    def bytes_up(self, answering: Collection[int]) -> int:
        """Return what clients send beside updates: public keys, encrypted shares, and those that recover secrets."""
        keys, shares = self._exchanged()
        revealed = sum(len(self._neighbours[each]) for each in answering) * SHARE_BYTES
        return keys * len(self.parties) + shares + revealed

    def bytes_down(self) -> int:
        """Return what the server sends beside weights: the public keys of neighbours, and their encrypted shares."""
        keys, shares = self._exchanged()
        return keys * sum(map(len, self._neighbours.values())) + shares

    def _exchanged(self) -> tuple[int, int]:
        """Return the bytes of a client's two public keys, for masks and for encryption, and of all pairs of shares."""
        pairs = sum(map(len, self._neighbours.values()))
        return 2 * len(next(iter(self.parties.values())).public), pairs * (2 * SHARE_BYTES + TAG_BYTES)

    def _recover(self, client: int, secret: Secret, helpers: Sequence[int]) -> bytes:
        return join({other + 1: self.parties[other].reveal(client, secret) for other in helpers[: self._needed]})


def regular_graph(cohort: Sequence[int], degree: int, draws: np.random.Generator) -> dict[int, list[int]]:
    """Return the neighbours of each client: on a random circle, the nearest `degree` (Bell et al. 2020).

    Args:
        cohort: Clients.
        degree: Even, or all others.
        draws: Of their places on the circle.
    """
    circle = [cohort[place] for place in draws.permutation(len(cohort))]
    if degree == len(cohort) - 1:
        return {each: [other for other in circle if other != each] for each in circle}
    ways = [way for way in range(-degree // 2, degree // 2 + 1) if way]
    return {each: [circle[(place + way) % len(circle)] for way in ways] for place, each in enumerate(circle)}


def _sign(client: int, other: int) -> int:
    """Return the sign of the mask that two clients share in the words of the first."""
    return 1 if other > client else -1


def _agreed(key: X25519PrivateKey, public: bytes) -> bytes:
    """Return the seed that the owners of two keys agree on."""
    agreed = key.exchange(X25519PublicKey.from_public_bytes(public))
    return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=b"pairwise mask").derive(agreed)


def _add(words: Words, seed: bytes, sign: int) -> None:
    """Add the mask of a seed to (P,) words, or subtract it, modulo 2^32."""
    # A key is used for one mask alone, so its counter may begin at 0.
    stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    # The cipher asks for room for another of its blocks.
    memory = bytearray(4 * BLOCK + 16)
    drawn = np.frombuffer(memory, "<u4")
    for first in range(0, len(words), BLOCK):
        block = words[first : first + BLOCK]
        stream.update_into(memoryview(ZEROS)[: block.nbytes], memory)
        (np.add if sign > 0 else np.subtract)(block, drawn[: len(block)], out=block)
