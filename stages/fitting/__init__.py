"""What train, federate and distill share: the settings, data, loop and outputs of a fitted cell. No verb."""
