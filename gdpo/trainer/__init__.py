"""GDPOTrainer, its objective and its data: group preference optimization, usable alone. Imports core alone."""
