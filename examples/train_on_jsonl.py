"""Train a model by GDPO on your own groups of prompt, completions and rewards, one group a line of JSON."""

import argparse
import sys

from gdpo import GDPOConfig, GDPOTrainer
from gdpo.core.errors import DescribedError
from gdpo.core.files import read_jsonl

parser = argparse.ArgumentParser(usage="%(prog)s MODEL GROUPS.jsonl OUT", description=__doc__)
parser.add_argument("paths", nargs=3, help="a model's directory or Hub name, the groups, where the trained model goes")
model, groups, out = parser.parse_args().paths
try:
    rows = [row for _, row in read_jsonl(groups)]
    trainer = GDPOTrainer(model, args=GDPOConfig(out, logging_steps=1), train_dataset=rows)
except DescribedError as error:
    sys.exit(f"train_on_jsonl: {error}")
trainer.train()
trainer.save_model(out)
