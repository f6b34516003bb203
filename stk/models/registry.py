"""Models by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from stk.config.named import find_named
from stk.config.strict import build
from stk.models.bart_mt import BartMt, BartMtConfig
from stk.models.chimera import Chimera, ChimeraConfig
from stk.models.costt import Costt, CosttConfig
from stk.models.language_model import LanguageModel, LanguageModelConfig
from stk.models.lna import Lna, LnaConfig
from stk.models.lut import Lut, LutConfig
from stk.models.speech_transformer import SpeechTransformer, SpeechTransformerConfig
from stk.models.text_classifier import TextClassifier, TextClassifierConfig
from stk.models.text_transformer import TextTransformer, TextTransformerConfig
from stk.models.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from stk.models.wav2vec2_transformer import Wav2Vec2Transformer, Wav2Vec2TransformerConfig
from stk.models.xstnet import XSTNet, XSTNetConfig

MODELS: dict[str, tuple[type[Any], type[Any]]] = {
    "bart_mt": (BartMtConfig, BartMt),
    "chimera": (ChimeraConfig, Chimera),
    "costt": (CosttConfig, Costt),
    "language_model": (LanguageModelConfig, LanguageModel),
    "lna": (LnaConfig, Lna),
    "lut": (LutConfig, Lut),
    "speech_transformer": (SpeechTransformerConfig, SpeechTransformer),
    "text_classifier": (TextClassifierConfig, TextClassifier),
    "text_transformer": (TextTransformerConfig, TextTransformer),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2),
    "wav2vec2_transformer": (Wav2Vec2TransformerConfig, Wav2Vec2Transformer),
    "xstnet": (XSTNetConfig, XSTNet),
}
"""Name -> (configuration dataclass, model class with a dict ``PRESETS``)."""


def build_model(
    named: Mapping[str, Any], vocab_sizes: Mapping[str, int], feature_dim: int | None = None
) -> nn.Module:
    """Build a model from the section ``model`` of a configuration.

    Args:
        named: ``name``, at will ``preset`` (a name in the class's ``PRESETS``), and keys of the
            model's configuration, which override the preset's.
        vocab_sizes: view name -> number of tokens.
        feature_dim: features of a frame; None where the run reads no sound.

    Raises:
        StkError: unknown name, preset or key, a wrong value, or a missing view.
    """
    config_class, model_class = find_named("model", named.get("name"), MODELS)
    keys = {key: value for key, value in named.items() if key not in ("name", "preset")}
    if named.get("preset") is not None:
        keys = {**find_named("preset", named["preset"], model_class.PRESETS), **keys}
    config = build(config_class, keys, where="model")
    model: nn.Module = model_class(config, vocab_sizes, feature_dim)
    return model
