"""Train a model by GDPO on your own groups of prompt, completions and rewards, one group a line."""

import argparse
import sys

from gdpo.errors import UserError
from gdpo.files import read_jsonl
from gdpo.trainer import DataError, GDPOConfig, GDPOTrainer

parser = argparse.ArgumentParser(description=__doc__)
for name, does in {"model": "directory or Hub name", "groups": "JSON Lines", "out": "directory to write"}.items():
    parser.add_argument(name, help=does)
given = parser.parse_args()
try:
    rows = [row for _, row in read_jsonl(given.groups)]
    trainer = GDPOTrainer(given.model, args=GDPOConfig(given.out, logging_steps=1), train_dataset=rows)
except (DataError, UserError) as error:
    sys.exit(f"train_on_jsonl: {error}")
trainer.train()
trainer.save_model(given.out)
