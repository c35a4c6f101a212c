"""Run one fitting cell: read its data, fit and measure a model per seed, write models, metrics, history."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.associations import planting
from stages.common import artifacts, command, measurements
from stages.common.cells import Cell
from stages.common.errors import InputError, SettingError
from stages.common.measurements import About, Measurement
from stages.common.partitions import read_partition
from stages.common.pool import run_seeds
from stages.fitting import canaries, secrets
from stages.fitting.secrets import Secret
from stages.fitting.settings import SPLITS, CellSettings, SecretSettings
from stages.models import files
from stages.models.examples import Examples, Vocabulary, read_split, rows_of, vocabulary
from stages.models.kinds import examples
from stages.models.process import set_up_process
from stages.models.settings import AnyModelSettings, read_fitted_model, read_model
from stages.models.text_model import TextModel


@dataclass(frozen=True)
class Data:
    """What one seed of a cell fits and is measured on.

    Attributes:
        vocabulary: Labels and tags of the whole training split, and those of canaries with a secret; a model that is
            no classifier has none.
        train: The examples the model may see.
        valid: The validation split, for all that is looked at while sizes are chosen.
        test: The test split, measured once at the end.
        clients: (len(train),) client of each example, or None where nobody deals them to clients.
        canaries: What `canaries.plant` returned, if some were planted.
        secret: What the data hide, if `secrets.plant` put copies of it into all splits.
        associated: What `planting.plant` measured of the training texts, if it rewrote them.
    """

    vocabulary: Vocabulary
    train: Examples
    valid: Examples
    test: Examples
    clients: NDArray[np.object_] | None = None
    canaries: pd.DataFrame | None = None
    secret: Secret | None = None
    associated: dict[str, Measurement] = field(default_factory=dict)

    @property
    def uncanaried(self) -> int:
        """Number of training examples that are no canaries, which come after them."""
        if self.secret is not None:
            return len(self.train) - self.secret.copies["train"]
        return len(self.train) - (0 if self.canaries is None else int(self.canaries["included"].sum()))

    @property
    def clean_train(self) -> Examples:
        """The training examples that are no canaries."""
        return self.train[np.arange(self.uncanaried)]

    @property
    def clean_test(self) -> Examples:
        """The test examples that are no canaries, which come after them."""
        if self.secret is None:
            return self.test
        return self.test[np.arange(len(self.test) - self.secret.copies["test"])]


@dataclass(frozen=True)
class Fitted:
    """One seed's result.

    Attributes:
        model: The fitted one.
        history: Rows of step, metric, value.
        privacy: Content of privacy.json.
        measured: What only the fitting verb knows, such as epsilon.
    """

    model: TextModel
    history: pd.DataFrame
    privacy: dict[str, Any]
    measured: dict[str, Measurement]


def loss_history(losses: list[float], metric: str = "train/loss") -> pd.DataFrame:
    """Return the history table of one loss per epoch."""
    return pd.DataFrame({"step": np.arange(1, len(losses) + 1), "metric": metric, "value": losses})


CellT = TypeVar("CellT", bound=CellSettings)
# The second is the settings of a model of a kind that the verb fits.
Fit = Callable[[CellT, Any, Data, int], Fitted]


def run_cell(cell: Cell[CellT], parameters: dict[str, Any], fit: Fit[CellT], seeds_at_once: int | None = None) -> None:
    """Fit a cell for all its seeds and write what a fitting verb hands on.

    Args:
        cell: Of train, federate or distill.
        parameters: What params.yaml holds.
        fit: Fits one seed; a function of a module, or a partial one, since every seed runs in a process of its own.
        seeds_at_once: For a verb whose seeds use several processes each: `pool.share`.
    """
    settings, place = cell.settings, cell.place
    if settings.takes_any_model:
        model = read_fitted_model(parameters, settings.model, settings.trains)
    else:
        model = read_model(parameters, settings.model)
    with cell.naming():
        by_seed = _data(settings, model)
    for data in by_seed.values():
        if settings.batch_size > len(data.train):
            more = f"{settings.batch_size} is more than the {len(data.train)} examples"
            raise InputError(cell.key("batch_size"), more, "give a smaller batch")
    most = max(len(data.train) for data in by_seed.values())
    for setting, problem, remedy in settings.cautions(most):
        command.warn(f"{cell.key(setting)}: {problem}; {remedy}")
    about = about_fitting(cell)
    with artifacts.atomic_folder(place.models) as temporary:
        results = run_seeds(_run_seed, by_seed, fit, cell, model, temporary, at_once=seeds_at_once)
        artifacts.write_json(temporary / "about.json", asdict(about))
    measurements.write(place.metrics, about, {seed: measured for seed, (measured, _) in results.items()})
    history = pd.concat([table.assign(seed=seed) for seed, (_, table) in results.items()])
    artifacts.write_table(place.curve("history"), history[["seed", "step", "metric", "value"]])


def whole(dataset: str, model: AnyModelSettings) -> Data:
    """Return a data set for a model, of which it may see the whole training split."""
    train, valid, test = (read_split(dataset, split) for split in SPLITS)
    known = vocabulary(train) if model.classifies else Vocabulary([], [])
    return Data(known, examples(train, model, known), examples(valid, model, known), examples(test, model, known))


def _data(settings: CellSettings, model: AnyModelSettings) -> dict[int, Data]:
    if settings.planted and not model.classifies:
        mislabelled = f"these canaries are mislabelled, and {model.called} knows no labels"
        raise SettingError("canaries", mislabelled, "hide a `secret`, or train a classifier")
    data = whole(settings.dataset, model)
    if settings.associated:
        planting.check(model, data.vocabulary, settings.associated)
    if settings.train_on == "train" and not settings.dealt:
        by_seed = dict.fromkeys(settings.seeds, data)
    else:
        by_seed = {seed: _dealt(settings, data, seed) for seed in settings.seeds}
    if settings.associated:
        return {seed: _with_associations(settings, model, held, seed) for seed, held in by_seed.items()}
    if (secret := settings.inserted) is None:
        return by_seed
    secrets.check(secret, data.vocabulary, model)
    return {seed: _with_a_secret(secret, model, held, seed) for seed, held in by_seed.items()}


def _dealt(settings: CellSettings, data: Data, seed: int) -> Data:
    """Return the data of which the model may see what one seed of the partition says."""
    pool = data.train
    held = read_partition(str(settings.partition), seed, settings.train_on)
    train = pool[rows_of(pool.example_ids, list(held["example_id"]))]
    clients = held["client_id"].to_numpy() if settings.dealt else None
    planted = None
    if settings.planted:
        reserve = read_partition(str(settings.partition), seed, "reserve")
        rows = rows_of(pool.example_ids, list(reserve["example_id"]))
        train, planted = canaries.plant(train, pool, rows, data.vocabulary, settings.planted, seed)
    return replace(data, train=train, clients=clients, canaries=planted)


def _with_a_secret(settings: SecretSettings, model: AnyModelSettings, data: Data, seed: int) -> Data:
    splits = {"train": data.train, "valid": data.valid, "test": data.test}
    planted = secrets.plant(splits, data.vocabulary, settings, model, seed)
    train, valid, test = (planted.splits[split] for split in SPLITS)
    return Data(planted.vocabulary, train, valid, test, data.clients, secret=planted.secret)


def _with_associations(settings: CellSettings, model: AnyModelSettings, data: Data, seed: int) -> Data:
    table = read_split(settings.dataset, "train")
    seen = table.iloc[rows_of(table["example_id"].to_numpy(), list(data.train.example_ids))]
    planted = planting.plant(seen, settings.associated, seed)
    train = examples(planted.table, model, data.vocabulary)
    return replace(data, train=train, associated=planted.measured)


def fit_safely(fit: Fit[CellT], cell: Cell[CellT], model: AnyModelSettings, data: Data, seed: int) -> Fitted:
    """Return what one seed gives, deterministically; InputError for a setting that cannot be, or that diverges."""
    set_up_process()
    with cell.naming():
        fitted = fit(cell.settings, model, data, seed)
    if not np.isfinite(fitted.history["value"]).all():
        rate = cell.settings.learning_rate
        problem = f"with {rate:g} the loss of seed {seed} stopped being a number"
        raise InputError(cell.key("learning_rate"), problem, "give a smaller one")
    return fitted


def _run_seed(
    seed: int, data: Data, fit: Fit[CellT], cell: Cell[CellT], model: AnyModelSettings, folder: Path
) -> tuple[dict[str, Measurement], pd.DataFrame]:
    fitted = fit_safely(fit, cell, model, data, seed)
    own = folder / str(seed)
    files.save(own, model, data.vocabulary.labels, data.vocabulary.tags, fitted.model)
    artifacts.write_table(own / "history.parquet", fitted.history)
    artifacts.write_json(own / "privacy.json", fitted.privacy)
    if data.canaries is not None:
        artifacts.write_table(own / "canaries.parquet", data.canaries)
    if data.secret is not None:
        secrets.write(own, data.secret)
    if cell.settings.associated:
        planting.write(own, cell.settings.associated)
    trained = sum(tensor.numel() for tensor in files.trained_state(fitted.model).values())
    measured = {
        # Without canaries, of which what was learnt is wrong, or a pattern that nobody asks for.
        **fitted.model.utility(data.clean_train, data.vocabulary, "train", seed),
        **fitted.model.utility(data.clean_test, data.vocabulary, "test", seed),
        "train/parameters": Measurement(float(trained)),
        **data.associated,
        # Last: of what is saved as trained, a federation may have frozen parts.
        **fitted.measured,
    }
    return measured, fitted.history


def about_fitting(cell: Cell[CellT]) -> About:
    """Return what is said of a fitted cell."""
    settings, place = cell.settings, cell.place
    return About(
        study=place.study,
        cell=place.cell,
        verb=place.verb,
        role=settings.role,
        command=place.command,
        inputs_sha256=artifacts.sha256([*settings.inputs(), *cell.others.values()]),
        dataset=settings.dataset,
        model=settings.model,
        partition=settings.partition,
        mechanism=settings.mechanism,
        device=files.device().type,
    )
