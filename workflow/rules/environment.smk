# The conda environment of each rule, for `--software-deployment-method conda`; without that, the lines `conda:` do
# nothing, and a step that needs vLLM's environment goes there by itself (gdpo/environment.py).
import os
from pathlib import Path

ENVIRONMENTS = {
    engine: str(Path(workflow.basedir, "envs", f"{name}.yaml"))
    for engine, name in [("hf", "gdpo"), ("vllm", "vllm")]
}
ENVIRONMENT = ENVIRONMENTS["hf"]
# Where envs/*.post-deploy.sh find the package.
os.environ["GDPO_CHECKOUT"] = str(workflow.basedir)


def sampling(model):
    """The environment of a rule that samples the model which `model` names, given the wildcards."""
    return lambda wildcards: ENVIRONMENTS[SCALE.model(model(wildcards)).engine]
