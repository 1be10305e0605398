"""GDPOTrainer's speed and memory beside its peers'; see README.md. Run with `make bench`."""
