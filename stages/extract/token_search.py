"""The attack without gradients: try tokens one by one, and keep what makes the label likeliest.

Missing tokens of a partial text from the likelihood of the class label alone (Elmahdy, Inan, Sim 2022, "Privacy Leakage
in Text Classification"). Of that paper the abstract was read: the search is ours. From random codes, each word in turn
is set to its best candidate given the others, until no word changes.
"""

import torch

from stages.common.streams import generator
from stages.extract.codes import Answer
from stages.extract.settings import TokenSearchSettings
from stages.extract.target import Target


@torch.no_grad()
def attack(target: Target, settings: TokenSearchSettings, seed: int) -> Answer:
    """Return the answer of one trial, by as many starts and passes over the words as the settings allow.

    Args:
        target: What is attacked.
        settings: `starts` codes are improved at once, in `passes` at most.
        seed: Of the starts.
    """
    shape, device = (settings.starts, target.unknown), target.context.device
    codes = torch.from_numpy(generator(seed, "token starts").integers(target.alphabet, size=shape)).to(device)
    visited: dict[tuple[int, ...], float] = {}
    candidates = torch.arange(target.alphabet, device=device)
    passes = 0
    while passes < settings.passes:
        before = codes.clone()
        for word in range(target.unknown):
            tried = codes[:, None].repeat(1, target.alphabet, 1)
            tried[..., word] = candidates
            losses = target.discrete(tried.flatten(0, 1)).view(tried.shape[:2])
            visited.update(zip(map(tuple, tried.flatten(0, 1).tolist()), losses.flatten().tolist(), strict=True))
            codes[:, word] = losses.argmin(dim=1)
        passes += 1
        if torch.equal(codes, before):
            break
    best = min(visited, key=lambda code: (visited[code], code))
    return Answer(best, visited[best], passes, len(visited))
