"""MetaGDPO (arXiv 2511.12113) as a reproducible benchmark: objective, trainer, data pipeline, tables.

`GDPOTrainer`, `GDPOConfig` and `gdpo_loss` are imported when they are first used: `import gdpo` imports neither torch
nor transformers, so that `gdpo --help` answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["GDPOConfig", "GDPOTrainer", "__version__", "gdpo_loss"]

if TYPE_CHECKING:
    from gdpo.trainer.gdpo_config import GDPOConfig
    from gdpo.trainer.gdpo_trainer import GDPOTrainer
    from gdpo.trainer.objective import gdpo_loss
else:
    _MODULES = {
        "GDPOConfig": "gdpo.trainer.gdpo_config",
        "GDPOTrainer": "gdpo.trainer.gdpo_trainer",
        "gdpo_loss": "gdpo.trainer.objective",
    }

    def __getattr__(name: str) -> Any:
        """Import what `gdpo` exports when it is asked for."""
        if name not in _MODULES:
            raise AttributeError(f"module 'gdpo' has no attribute '{name}'")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
