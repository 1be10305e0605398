"""MetaGDPO (arXiv 2511.12113) as a reproducible benchmark: objective, trainer, data pipeline, tables.

Importing `gdpo` imports neither torch nor transformers, so that `gdpo --help` answers at once.
"""

__version__ = "0.1.0"
