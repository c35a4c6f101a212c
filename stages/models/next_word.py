"""The next-word model: frozen word vectors, an LSTM that reads them, and scores of a public list of words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stages.common.errors import InputError
from stages.common.measurements import Measurement
from stages.common.statistics import perplexity, share
from stages.models.encoders import CHUNK, EncodedText, StaticTable, mask, padded_ids
from stages.models.evaluate import chunks
from stages.models.examples import Examples, Vocabulary, unlabelled
from stages.models.language import LOGITS, mean_of_own, predicted
from stages.models.pretrained import end_of_text, tokenizer
from stages.models.recurrent import LSTM, packed, padded
from stages.models.settings import LanguageModelSettings, WordNetwork
from stages.models.text_model import Objective, TextModel

IGNORED = -100


class NextWordModel(TextModel):
    """Say how surprising each word of a text and then its end are, given the words before.

    Outputs are the unknown word, the first words of the vectors' file by their rows, and the end. The file's order is
    public, so that no private text decides what can be predicted.

    Args:
        settings: The model's block of params.yaml; its network is one of words.
    """

    settings: LanguageModelSettings

    def __init__(self, settings: LanguageModelSettings) -> None:
        super().__init__(settings)
        network = settings.network
        assert isinstance(network, WordNetwork)
        self.encoder = StaticTable(network.encoder)
        if network.vocabulary > (most := len(self.encoder.table) - 1):
            limit = f"allowed: at most {most}, the words of the vectors"
            raise InputError("params.yaml: models: network.vocabulary", str(network.vocabulary), limit)
        self.recurrent = LSTM(self.encoder.dimension, network.hidden, network.layers, batch_first=True)
        self.outputs = nn.Linear(network.hidden, network.vocabulary + 2)
        # The token, and its output.
        self.end, self.end_output = end_of_text(settings), network.vocabulary + 1
        # So that their logits fit in memory.
        self.chunk = min(CHUNK, max(1, LOGITS // (settings.max_length * self.outputs.out_features)))

    @staticmethod
    def read(table: pd.DataFrame, settings: LanguageModelSettings, known: Vocabulary) -> Examples:
        """Encode texts with their ends."""
        del known
        return unlabelled(table, with_ends(list(table["text"]), settings))

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return (n, longest - 1) losses in nats, of the tokens after the first one, 0 past a text's end."""
        return _losses(self.logits(ids, lengths), self.targets(ids, lengths))

    def logits(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return (n, longest - 1, outputs) what the words before say of each token after the first one."""
        read = lengths - 1
        width = int(read.max())
        # The mark of an end is not read, and has no vector.
        vectors = self.encoder(ids[:, :width] * mask(read, width), read)
        states, _ = self.recurrent(packed(vectors, read))
        # Padded before they are scored: what clips by example has examples in the first dimension.
        logits: Tensor = self.outputs(padded(states, read, width))
        return logits

    def targets(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return (n, longest - 1) the output that is each token after the first one, IGNORED past a text's end."""
        following = ids[:, 1 : int(lengths.max())].long()
        outputs = following.where(following < self.end_output, 0).where(following != self.end, self.end_output)
        return outputs.where(mask(lengths - 1, outputs.shape[1]), IGNORED)

    def objective(self, examples: Examples) -> Objective:
        """Return the mean loss of each text's own words and its end."""
        return mean_of_own(examples.text, self.device)

    def utility(self, examples: Examples, known: Vocabulary, split: str, seed: int) -> dict[str, Measurement]:
        """Return the share of next words that are the likeliest word, and the perplexity per word, ends among them.

        Neither the unknown nor the end is such a word: they are not counted, and not what is predicted.
        """
        del known
        losses = np.empty(len(examples))
        right, words = (np.empty(len(examples), dtype=np.int64) for _ in range(2))
        for rows, inputs in chunks(self, examples):
            logits, targets = self.logits(*inputs), self.targets(*inputs)
            losses[rows.numpy()] = _losses(logits, targets).double().sum(dim=1).cpu().numpy()
            # Of words alone: where the unknown is frequent it is nearly always the likeliest of all.
            likeliest = 1 + logits[:, :, 1 : self.end_output].argmax(dim=2)
            right[rows.numpy()] = (likeliest == targets).sum(dim=1).cpu().numpy()
            words[rows.numpy()] = ((targets > 0) & (targets < self.end_output)).sum(dim=1).cpu().numpy()
        return {
            f"{split}/next_word_accuracy": share(right, words, seed),
            f"{split}/perplexity": perplexity(losses, predicted(examples.text).numpy(), seed),
        }


def with_ends(texts: Sequence[str], settings: LanguageModelSettings) -> EncodedText:
    """Encode texts between the marks of a beginning and an end, which may be cut off."""
    end = end_of_text(settings)
    encodings = tokenizer(settings).encode_batch(list(texts))
    marked = [[*encoding.ids, end][: settings.max_length] for encoding in encodings]
    ids, lengths = (torch.from_numpy(each) for each in padded_ids(marked))
    return EncodedText(ids, lengths, torch.full(ids.shape, -1, dtype=torch.int16))


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORED
    )
    return losses.view_as(targets)
