"""The verb `prepare`: a source of text -> clean, split, documented tables. ``python -m stages.prepare --help``."""
