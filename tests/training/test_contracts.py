"""What later systems build on, used end to end by a toy system: named views, a sidecar read in
collate, batches of one kind, counts before the forward pass, scheduled scalars, a frozen helper,
the model's own output, hooks, and streams mixed by temperature."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stk.cli.judge import generator
from stk.config.run import RunConfig
from stk.config.strict import build
from stk.data.batch import Batch, Item, Padded, Size, Source
from stk.data.loader import Loader
from stk.data.manifest import read_manifest
from stk.data.mixing import Mixing
from stk.data.sidecar import SidecarWriter, made_by
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.objectives.base import CollateContext, Objective, Sum
from stk.objectives.cross_entropy import target_sums
from stk.objectives.registry import OBJECTIVES
from stk.objectives.sequence import weight_of
from stk.objectives.task import TargetConfig, collate_target
from stk.training.assemble import load_data
from stk.training.distributed import join
from stk.training.hooks import HOOKS, Hook
from stk.training.loop import train
from stk.training.metrics import read_metrics

PARTS = {"teacher": "toy"}


@dataclass(frozen=True, kw_only=True)
class ToyConfig(TargetConfig):
    """A text source with some of its pieces hidden; a second view of it gives the class."""

    second_view: str = "vowels"
    sidecar: str = "teacher"
    hidden: float = 0.3
    distil_weight: float | str = "distil"


@dataclass(frozen=True, kw_only=True)
class ToyBatch(Batch):
    source: Source
    target: object
    classes: Tensor
    taught: Tensor
    sizes: dict[str, float]


class Toy(Objective):
    """Translates from a source that collate damages, predicts the number of vowels (second view),
    follows a frozen helper, and measures the model's own output."""

    needs = frozenset({"src_text", "tgt_text"})
    seen: list[tuple[int, float, tuple[str, ...]]] = []

    def __init__(self, config: ToyConfig) -> None:
        self.config = config

    def size(self, example, context: CollateContext) -> Size:
        return Size(tokens=len(example.tgt_text) + 2)

    def sidecar_parts(self, helpers, context):
        return {self.config.sidecar: {"teacher": "toy"}}

    def refuse(self, example, size, context) -> str | None:
        sidecar = context.sidecars[self.config.sidecar]
        return None if example.id in sidecar else f"not in the sidecar: {example.id}"

    def collate(self, items: list[Item], context: CollateContext) -> ToyBatch:
        text, second = context.vocabs["text"], context.vocabs[self.config.second_view]
        sources, hidden = [], 0
        for item in items:
            ids = np.array(text.encode(item.example.src_text))
            hide = item.rng.random(len(ids)) < self.config.hidden
            hidden += int(hide.sum())
            sources.append([*np.where(hide, text.mask, ids).tolist(), text.eos])
        padded = Padded.stack(sources)
        target = collate_target(items, self.config, context)
        vowels = [second.encode(item.example.tgt_text) for item in items]
        sidecar = context.sidecars[self.config.sidecar]
        return ToyBatch(
            ids=tuple(item.example.id for item in items),
            source=Source(padded.data, padded.lengths),
            target=target,
            classes=torch.tensor([sum(i != second.unk for i in ids) for ids in vowels]),
            taught=torch.stack([sidecar[item.example.id]["level"][0] for item in items]),
            sizes={"tokens": len(target.labels), "examples": len(items), "hidden": hidden},
        )

    def counts(self, batch: ToyBatch) -> dict[str, float]:
        return dict(batch.sizes)

    def forward(self, model, batch: ToyBatch, context) -> dict[str, Sum]:
        encoded = model.encode(batch.source)
        helper = context.helpers["teacher"]
        assert not helper.training and not any(p.requires_grad for p in helper.parameters())
        with torch.no_grad():
            wanted = helper.encode(batch.source).states.sum(1)
        written = context.generate(batch.source)
        assert len(written) == len(batch.ids) and model.training
        assert batch.taught.tolist() == [len(name) for name in batch.ids]
        weight = weight_of(self.config.distil_weight, context.scalars)
        self.seen.append((context.step, weight, batch.ids))
        distance = functional.mse_loss(encoded.states.sum(1), wanted, reduction="sum")
        lengths = torch.tensor(float(sum(map(len, written))))
        return {
            **target_sums(model, encoded, batch.target, 0.1, 1.0, "ce"),
            "distil": Sum(distance, "examples", weight),
            "written": Sum(lengths, "examples", 0.0),
            "vowels": Sum(batch.classes.float().sum(), "examples", 0.0),
            "taught": Sum(batch.taught.float().sum(), "examples", 0.0),
        }


@dataclass(frozen=True)
class CountingConfig:
    by: int = 1


class Counting(Hook):
    """Counts steps, through checkpoints too."""

    Config = CountingConfig
    total = 0

    def after_step(self, model, optimizer, step):
        self.total += self.config.by

    def state(self):
        return {"total": self.total}

    def load(self, state):
        self.total = state["total"]


@pytest.fixture
def toy(tiny, tmp_path, monkeypatch):
    """The plain configuration of the toy system: two streams, the first eight times the other."""
    monkeypatch.setitem(OBJECTIVES, "toy", (ToyConfig, Toy))
    monkeypatch.setitem(HOOKS, "counting", Counting)
    monkeypatch.setattr(Toy, "seen", [])
    train(build(RunConfig, tiny(output=str(tmp_path / "teacher"), training={"max_updates": 1})))
    CharVocab("aeiou").save(tmp_path / "vowels")
    objective = {"name": "toy", "target": "tgt_text", "target_view": "text"}
    streams, rows = [], 32
    for name in ("big", "small"):
        path = tmp_path / f"{name}.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            for i in range(rows):
                row = {"id": f"{name}{i}", "src_text": str(i), "tgt_text": "one two"[: 3 + i % 5]}
                row |= {"src_lang": "en", "tgt_lang": ("de", "fr")[i % 2]}
                file.write(json.dumps(row) + "\n")
        stream = {"name": name, "manifests": [str(path)], "objective": objective}
        streams.append(stream | {"batch": {"max_examples": 4}, "group_by": ["tgt_lang"]})
        rows //= 8
    with SidecarWriter(tmp_path / "teacher8", made_by(**PARTS), PARTS) as writer:
        for stream in streams:
            for example in read_manifest(stream["manifests"][0]):
                level = torch.tensor([len(example.id)], dtype=torch.int32)
                if example.id != "big7":
                    writer.add(example.id, {"level": level})
    return tiny(
        vocabularies={"text": str(tmp_path / "vocab"), "vowels": str(tmp_path / "vowels")},
        streams=streams,
        mixing={"rule": "temperature", "temperature": 3.0},
        sidecars={"teacher": str(tmp_path / "teacher8")},
        helpers={"teacher": str(tmp_path / "teacher" / "last")},
        scalars={"distil": [[1, 0.0], [7, 1.0]]},
        hooks=[{"name": "counting", "by": 2}],
        training={"max_updates": 12, "workers": 1, "accumulate": 2},
    )


def run(plain, **changes):
    config = build(RunConfig, plain | changes)
    return train(config, generate=generator(config))


def test_a_toy_system_from_end_to_end(toy, tmp_path):
    assert run(toy).update == 12
    steps = [step for step, _, _ in Toy.seen]
    assert steps[-24:] == [step for step in range(12) for _ in range(2)]
    weights = {step: weight for step, weight, _ in Toy.seen}
    assert weights[0] == 0.0 and weights[3] == pytest.approx(0.5) and weights[8] == 1.0
    named = [ids for _, _, ids in Toy.seen[-24:]]
    share = 4 ** (1 / 3) / (31 ** (1 / 3) + 4 ** (1 / 3))
    mixing = Mixing(np.array([1 - share, share]), seed=1)
    drawn = [("big", "small")[mixing.at(step)[0]] for step in range(24)]
    assert [re.sub(r"\d", "", ids[0]) for ids in named] == drawn and len(set(drawn)) == 2
    languages = [{int(re.sub(r"\D", "", i)) % 2 for i in ids} for ids in named]
    assert all(len(kinds) == 1 for kinds in languages)
    assert not any("big7" in ids for ids in named)
    assert "not in the sidecar" in (tmp_path / "run" / "left_out.txt").read_text()
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert 4.0 <= last["big/taught"] <= 5.0  # letters of big0 ... big31
    assert 1.0 <= last["big/vowels"] <= 3.0  # vowels of "one" ... "one two"
    state = torch.load(tmp_path / "run" / "last" / "state.pt", weights_only=True)
    assert state["hooks"] == [{"total": 24}]


def test_it_goes_on_after_an_interruption(toy, tmp_path):
    """Hook state, masks and the model's own output included."""
    first, rest = (toy["training"] | {"max_updates": n} for n in (3, 6))
    run(toy, output=str(tmp_path / "whole"), training=rest)
    run(toy, training=first)
    run(toy, training=rest)
    whole, cut = (read_metrics(tmp_path / n / "metrics.jsonl") for n in ("whole", "run"))
    timing = {"seconds", "updates_per_second", "waiting_share"}
    for one, other in zip(whole, cut, strict=True):
        assert {k: v for k, v in one.items() if k not in timing} == {
            k: v for k, v in other.items() if k not in timing
        }
    state = torch.load(tmp_path / "run" / "last" / "state.pt", weights_only=True)
    assert state["hooks"] == [{"total": 12}]


def test_counts_are_known_before_the_forward_pass(toy):
    """What collate drew is in the counts."""
    config = build(RunConfig, toy)
    data = load_data(config, join("cpu"))
    micro = next(iter(Loader(data.streams, config.mixing, seed=1)))
    counts = data.objectives[micro.stream].counts(micro.batch)
    hidden = (micro.batch.source.data == data.vocabs["text"].mask).sum()
    assert counts["hidden"] == int(hidden) and counts["tokens"] == len(micro.batch.target.labels)


def test_what_is_missing_is_one_line(toy, tmp_path):
    with pytest.raises(StkError, match="no-sidecar: not a complete sidecar"):
        run(toy, sidecars={"teacher": str(tmp_path / "no-sidecar")})
    unread = {"teacher": str(tmp_path / "teacher8"), "more": str(tmp_path / "teacher8")}
    with pytest.raises(StkError, match="teacher8: sidecar 'more' is read by no objective"):
        run(toy, sidecars=unread)
    other = {"teacher": "another"}
    with SidecarWriter(tmp_path / "teacher8", made_by(**other), other) as writer:
        writer.add("big0", {"level": torch.zeros(1, dtype=torch.int32)})
        writer.add("small0", {"level": torch.zeros(1, dtype=torch.int32)})
    with pytest.raises(StkError, match="was made with teacher another, not toy"):
        run(toy)
