"""The loss of a classifier, by the name under which stages/extract reads it."""

from stages.models.classifier import losses as losses
