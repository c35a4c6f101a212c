"""Text classifiers and language models: encode text, build, load, save, evaluate. No verb: the other packages use it."""
