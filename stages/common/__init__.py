"""What every stage uses: settings, artifacts, measurements, random streams, how a command runs. No torch here."""
