"""How strongly a classifier's output reacts to the vectors of a text's tokens: measured, and held down in training."""
