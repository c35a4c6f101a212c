"""Knowledge distillation: a student learns from labels and from a teacher's predictions."""
