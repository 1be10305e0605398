"""GDPOTrainer, its objective and its data: group preference optimization, usable alone. Sees core only."""
