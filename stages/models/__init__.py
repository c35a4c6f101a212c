"""Text models: encode text, build, load, save, evaluate. No verb: the other packages use it."""
