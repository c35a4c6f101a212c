"""Fit one seed by knowledge distillation (Hinton et al. 2015)."""

import torch
from torch import Tensor, nn

from stages.common.errors import SettingError
from stages.common.measurements import no_guarantee
from stages.distill.settings import DistillSettings
from stages.fitting import ordinary
from stages.fitting.cell import Data, Fitted, loss_history
from stages.models import files
from stages.models.classifier import Scores
from stages.models.evaluate import predict
from stages.models.examples import read_split, rows_of
from stages.models.fitted import load_named
from stages.models.settings import ModelSettings
from stages.models.text_model import Objective


def fit(settings: DistillSettings, model: ModelSettings, data: Data, seed: int) -> Fitted:
    """Return the student that one seed of a distillation cell gives."""
    student = files.build(model, data.vocabulary.labels, data.vocabulary.tags, seed)
    teacher = teacher_log_probabilities(settings, data, seed).to(student.device)
    objective = distillation_objective(
        student.objective(data.train), teacher, settings.temperature, settings.teacher_weight
    )
    inputs = student.inputs(data.train.text)
    losses = ordinary.fit(
        student, inputs, objective, settings.batch_size, settings.epochs, settings.learning_rate, seed
    )
    return Fitted(student, loss_history(losses), no_guarantee("distillation is no privacy mechanism"), {})


def distillation_objective(hard: Objective, teacher: Tensor, temperature: float, teacher_weight: float) -> Objective:
    """Return weight x T^2 x KL(teacher || student) at temperature T + (1 - weight) x the objective on labels.

    Args:
        hard: Objective on the labels.
        teacher: (n, labels) the teacher's log-probabilities, or logits.
        temperature: T. The factor T^2 keeps the gradient's size independent of it (section 2.1).
        teacher_weight: Share of the teacher's term.
    """
    softened = nn.functional.log_softmax(teacher / temperature, dim=1)

    def objective(scores: Scores, rows: Tensor) -> Tensor:
        student = nn.functional.log_softmax(scores.labels / temperature, dim=1)
        divergence = nn.functional.kl_div(student, softened[rows], reduction="none", log_target=True).sum(dim=1)
        return teacher_weight * temperature**2 * divergence + (1 - teacher_weight) * hard(scores, rows)

    return objective


def teacher_log_probabilities(settings: DistillSettings, data: Data, seed: int) -> Tensor:
    """Return (n, labels) the teacher's log-probabilities of the student's examples; the teacher is not changed."""
    teacher = load_named(settings.teacher, seed)
    if teacher.vocabulary.labels != data.vocabulary.labels:
        raise SettingError(
            "teacher", f"{settings.teacher} has other labels than the student", "train both on one data set"
        )
    pool = teacher.examples(read_split(settings.dataset, "train"))
    own = pool[rows_of(pool.example_ids, list(data.train.example_ids))]
    return torch.from_numpy(predict(teacher.classifier, own).label_log_probabilities).float()
