"""wav2vec 2.0 checkpoints of transformers and torchaudio: read into stk's model, written back.

Weights come from local files alone. A key that is not understood is an error, since a weight that
is silently left behind gives a model that looks right and is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from stk.config.run import FeatureConfig
from stk.config.strict import build, to_plain
from stk.errors import StkError
from stk.interop.checkpoint import save_imported
from stk.interop.state import read_state
from stk.interop.wav2vec2_config import (
    huggingface_config,
    read_huggingface,
    sizes_of_torchaudio,
)
from stk.interop.wav2vec2_names import CANONICAL, PRETRAINING, encoder_names, quantizer_names
from stk.models.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from stk.modules.wave_encoder import WaveEncoder


@dataclass(frozen=True)
class Imported:
    """A checkpoint of another library in stk's terms.

    Attributes:
        config: of the model; without a quantiser in the file its keys are the defaults.
        weights: by stk's names: ``encoder.*``, and with a quantiser those of a whole
            :class:`Wav2Vec2`.
        absent: what the file does not hold and so stays as initialised: the mask vector in
            torchaudio's layout, the quantiser in fine-tuned checkpoints.
        file: where it was read.
    """

    config: Wav2Vec2Config
    weights: dict[str, Tensor]
    absent: tuple[str, ...]
    file: Path

    def model(self) -> Wav2Vec2:
        """A model with these weights, in evaluation mode."""
        model = Wav2Vec2(self.config)
        missing, extra = model.load_state_dict(self.weights, strict=False)
        left = [name for name in missing if not name.startswith(self.absent)]
        assert not extra and not left, (extra, left)  # names and shapes were checked on reading
        return model.eval()

    def save(self, directory: str | Path) -> None:
        """Write a checkpoint that ``init_from`` and ``stk-train`` take.

        Raises:
            StkError: the directory exists, or cannot be written.
        """
        save_imported(
            self.model(),
            directory,
            model_keys={"name": "wav2vec2", **to_plain(self.config)},
            objective={"name": "contrastive"},
            vocabs={},
            source=self.file,
            features=FeatureConfig(
                kind="waveform", cmvn="none", normalize_waveform=self.config.normalized
            ),
        )

    def load_into(self, encoder: WaveEncoder) -> None:
        """Copy the encoder's weights into that of another model.

        Raises:
            StkError: the encoder is of another size or norm layout.
        """
        mine, theirs = encoder.shape, self.config
        sizes = ("layers", "width", "ffn", "heads", "norm", "extractor_norm", "convolutions")
        keys = (*sizes, "position_kernel", "position_groups")
        other = [
            f"{key} {getattr(theirs, key)} instead of {getattr(mine, key)}"
            for key in keys
            if getattr(theirs, key) != getattr(mine, key)
        ]
        if other:
            raise StkError(
                f"the checkpoint is of another layout than the model: {', '.join(other)}",
                file=self.file,
                mend="give the model's wave encoder the checkpoint's sizes and norms "
                "(wave: {preset: base} or {preset: large})",
            )
        prefix = "encoder."
        own = {
            name.removeprefix(prefix): tensor
            for name, tensor in self.weights.items()
            if name.startswith(prefix)
        }
        encoder.load_state_dict(own, strict="encoder.mask_vector" not in self.absent)


def read_wav2vec2(
    path: str | Path,
    *,
    layout: Literal["huggingface", "torchaudio"] = "huggingface",
    heads: int | None = None,
    ignore: Sequence[str] = (),
    norm_over_padding: bool = False,
) -> Imported:
    """Read a checkpoint.

    Args:
        path: a directory of ``transformers`` (``config.json`` beside ``model.safetensors`` or
            ``pytorch_model.bin``), or a file with the state of a torchaudio model.
        layout: whose names the file has.
        heads: attention heads; None: from the configuration, and one per 64 channels in
            torchaudio's files, which have none.
        ignore: prefixes of keys to leave behind, such as ``lm_head.`` of a recogniser.
        norm_over_padding: for group-norm checkpoints: statistics over padding as where they come
            from, instead of over real frames alone.

    Raises:
        StkError: no such file, a configuration that the model here cannot have, keys that are not
            understood, missing, or of another shape.
    """
    path = Path(path)
    theirs, file = read_state(path)
    theirs = {_canonical(key, layout): tensor for key, tensor in theirs.items()}
    theirs = {k: v for k, v in theirs.items() if not k.startswith(tuple(ignore) or ("\0",))}
    plain = (
        read_huggingface(path, file)
        if layout == "huggingface"
        else sizes_of_torchaudio(theirs, file)
    )
    if heads is not None:
        plain["heads"] = heads
    if norm_over_padding and plain["extractor_norm"] == "group":
        plain["norm_over_padding"] = True
    config = build(Wav2Vec2Config, plain, where="model")
    whole = any(key.startswith(PRETRAINING) for key in theirs)
    weights, absent = _convert(theirs, config, whole, layout, file)
    return Imported(config, weights, absent, file)


def write_huggingface(model: Wav2Vec2, directory: str | Path) -> None:
    """Write a model as ``transformers`` saves ``Wav2Vec2ForPreTraining``.

    Args:
        model: what to write.
        directory: made where it is missing; gets ``config.json``, ``preprocessor_config.json`` and
            ``model.safetensors``.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state, shape = model.state_dict(), model.config
    out: dict[str, Tensor] = {}
    for mine, theirs in (*encoder_names(shape), *quantizer_names()):
        tensor = state[mine].detach().cpu()
        if mine == "quantizer.codebook":
            tensor = tensor.flatten(0, 1)[None]
        outer = "" if theirs[0].startswith(PRETRAINING) else "wav2vec2."
        for name, part in zip(theirs, tensor.chunk(len(theirs)), strict=True):
            out[outer + name] = part.clone().contiguous()
    save_file(out, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(huggingface_config(shape), indent=2) + "\n")
    features = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": 16000,
        "padding_value": 0.0,
        "do_normalize": shape.normalized,
        "return_attention_mask": shape.normalized,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(features, indent=2) + "\n")


def _canonical(key: str, layout: str) -> str:
    for pattern, replacement in CANONICAL[layout]:
        key = re.sub(pattern, replacement, key)
    return key


def _convert(
    theirs: Mapping[str, Tensor], config: Wav2Vec2Config, whole: bool, layout: str, file: Path
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    names = [*encoder_names(config), *(quantizer_names() if whole else ())]
    absent: list[str] = [] if whole else ["quantizer.", "target.", "context."]
    if layout == "torchaudio" and "masked_spec_embed" not in theirs:
        names = [pair for pair in names if pair[0] != "encoder.mask_vector"]
        absent.append("encoder.mask_vector")
    wanted = {name for _, parts in names for name in parts}
    unknown, missing = sorted(set(theirs) - wanted), sorted(wanted - set(theirs))
    if unknown or missing:
        raise StkError(
            f"{layout} keys not understood: {', '.join(unknown) or 'none'}; missing: "
            f"{', '.join(missing) or 'none'}",
            file=file,
            mend="name the other layout, or leave heads of other tasks behind with ignore",
        )
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in Wav2Vec2(config).state_dict().items()}
    weights = {}
    for mine, parts in names:
        tensor = torch.cat([theirs[name] for name in parts])
        if mine == "quantizer.codebook":
            tensor = tensor[0].unflatten(0, (config.groups, config.codes))
        if tensor.shape != shapes[mine]:
            raise StkError(
                f"{parts[0]} gives {mine} the shape {tuple(tensor.shape)} instead of "
                f"{tuple(shapes[mine])}",
                file=file,
                mend="its configuration belongs to another checkpoint",
            )
        weights[mine] = tensor
    return weights, tuple(absent)
