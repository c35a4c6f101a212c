import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax, softmax

from stages.distill.student import distillation_objective
from stages.models.classifier import Scores, losses

ROWS = torch.tensor([2, 0, 3])


@pytest.fixture
def logits():
    """Logits of a teacher (5 texts) and of a student (3 of them), 4 labels each."""
    draws = torch.Generator().manual_seed(0)
    return torch.randn(5, 4, generator=draws), torch.randn(3, 4, generator=draws)


def labels_only(scores, rows):
    return losses(scores, torch.tensor([1, 0, 3, 2, 1])[rows], None)


def objective(teacher, temperature, weight):
    return distillation_objective(labels_only, teacher, temperature, weight)


def loss(teacher, student, temperature, weight):
    return objective(teacher, temperature, weight)(Scores(student, None), ROWS)


def test_without_the_teacher_it_is_the_objective_on_labels_to_the_last_bit(logits):
    teacher, student = logits
    assert torch.equal(loss(teacher, student, 2.0, 0.0), labels_only(Scores(student, None), ROWS))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_teachers_term_is_the_divergence_at_the_temperature_times_its_square(logits, temperature):
    teacher, student = logits
    own = softmax(teacher[ROWS] / temperature, dim=1)
    divergence = (own * (own.log() - log_softmax(student / temperature, dim=1))).sum(dim=1)
    torch.testing.assert_close(loss(teacher, student, temperature, 1.0), temperature**2 * divergence)


def test_the_two_terms_are_shared_out_by_the_weight(logits):
    teacher, student = logits
    expected = 0.3 * loss(teacher, student, 2.0, 1.0) + 0.7 * labels_only(Scores(student, None), ROWS)
    torch.testing.assert_close(loss(teacher, student, 2.0, 0.3), expected)


def test_a_student_that_scores_like_its_teacher_has_nothing_to_learn(logits):
    teacher = logits[0]
    student = teacher[ROWS].clone().requires_grad_()
    found = loss(teacher, student, 3.0, 1.0)
    found.sum().backward()
    torch.testing.assert_close(found, torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros(3, 4), atol=1e-6, rtol=0)


def test_log_probabilities_teach_as_logits_do(logits):
    teacher, student = logits
    torch.testing.assert_close(loss(log_softmax(teacher, dim=1), student, 2.0, 1.0), loss(teacher, student, 2.0, 1.0))


def test_the_gradient_keeps_its_size_at_high_temperatures(logits):
    # Hinton et al. 2015, section 2.1: at high T it tends to (z - v) / N of centred logits.
    teacher, student = logits[0], logits[1].clone().requires_grad_()
    loss(teacher, student, 1000.0, 1.0).sum().backward()
    own, theirs = (some - some.mean(dim=1, keepdim=True) for some in (student.detach(), teacher[ROWS]))
    torch.testing.assert_close(student.grad, (own - theirs) / 4, rtol=1e-2, atol=1e-3)


def test_at_low_temperatures_the_teachers_best_label_is_all_that_counts(logits):
    teacher, student = logits
    temperature = 0.02
    hard = temperature**2 * cross_entropy(student / temperature, teacher[ROWS].argmax(dim=1), reduction="none")
    torch.testing.assert_close(loss(teacher, student, temperature, 1.0), hard, rtol=1e-3, atol=1e-6)
