"""Speed and memory against peers: ``python -m benchmarks.<name> --json FILE``. Never a test: see README.md here."""
