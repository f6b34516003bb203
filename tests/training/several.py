"""Runs of several processes over gloo, for test_distributed.py: ``several.py FOLDER``.

PyTorch is imported once, and every process of a run is a fork of this one, which keeps the
whole set within seconds. Each run leaves files in FOLDER for the tests to compare.
"""

import copy
import json
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed.fsdp
import torch.utils.tensorboard

from stk.config.run import RunConfig
from stk.config.strict import build
from stk.data.loader import Loader
from stk.objectives.cross_entropy import CrossEntropy
from stk.training.assemble import load_data
from stk.training.distributed import join
from stk.training.hooks import HOOKS, Hook
from stk.training.learner import Learner
from stk.training.loop import train


@dataclass(frozen=True)
class NoKeys:
    pass


class SaveGradients(Hook):
    """Writes the whole gradient of every step."""

    Config = NoKeys
    path = ""

    def after_step(self, model, optimizer, step):
        from stk.training.distributed import full

        grads = {n: full(p.grad) for n, p in model.named_parameters() if p.grad is not None}
        if os.environ["RANK"] == "0":
            torch.save(grads, f"{self.path}.{step}")


HOOKS["save_gradients"] = SaveGradients


def several(world, work, *args):
    """Fork ``world`` processes that see torchrun's variables, and wait for them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            status = 1
            try:
                work(*args)
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        raise SystemExit(f"{work.__name__} of {world} ended with {codes}")


def plain_run(base, folder, name, **training):
    """One run through ``train``; its gradients go to ``name.grad.STEP``."""
    config = copy.deepcopy(base)
    config["output"] = str(folder / name)
    config["training"] |= training
    config["hooks"] = [{"name": "save_gradients"}]
    SaveGradients.path = str(folder / f"{name}.grad")
    train(build(RunConfig, config))


def mixed_window(base, folder, name, pattern):
    """One update on a window of two streams that share the encoder alone."""
    config = copy.deepcopy(base)
    first = config["streams"][0]
    spelled = {"name": "ctc", "source": "src_text", "source_view": "text"}
    objective = spelled | {"ctc_text": "src_text", "ctc_view": "text"}
    config["streams"].append(first | {"name": "labels", "objective": objective})
    config["model"] |= {"ctc_layer": 1, "ctc_view": "text"}
    config["output"] = str(folder / name)
    config["hooks"] = [{"name": "save_gradients"}]
    SaveGradients.path = str(folder / f"{name}.grad")
    run = build(RunConfig, config)
    workers = join("cpu")
    data = load_data(run, workers)
    learner = Learner(run, data, workers)
    window = []
    for i, stream in enumerate(data.streams):
        loader = Loader([stream], run.mixing, seed=1, rank=workers.rank, world=workers.world)
        batches = iter(loader)
        window += [next(batches) for _ in range(pattern[i])]
    learner.update(window, {})
    workers.gather(None)  # nobody leaves before all are done


def poisoned(base, folder):
    """A loss that is not a number in one process only."""
    forward = CrossEntropy.forward

    def poison(self, model, batch, context):
        sums = forward(self, model, batch, context)
        if context.step == 1 and os.environ["RANK"] == "1":
            sums["loss"] = type(sums["loss"])(sums["loss"].value * float("inf"), "tokens")
        return sums

    CrossEntropy.forward = poison
    plain_run(base, folder, "poisoned", max_updates=3, worst_batch_first=False)


def main(folder):
    torch.set_num_threads(1)
    base = json.loads((folder / "base.json").read_text())
    several(1, lambda: plain_run(base, folder, "alone", accumulate=4))
    several(4, lambda: plain_run(base, folder, "four"))
    several(2, lambda: plain_run(base, folder, "shares", accumulate=2, strategy="fsdp"))
    shutil.copytree(folder / "shares", folder / "cut", symlinks=True)
    shutil.rmtree(folder / "cut" / "checkpoints" / "update-00000002")
    several(2, lambda: plain_run(base, folder, "cut", accumulate=2, strategy="fsdp"))
    several(1, lambda: mixed_window(base, folder, "mixed1", (2, 2)))
    several(2, lambda: mixed_window(base, folder, "mixed2", (1, 1)))
    several(2, lambda: poisoned(base, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
