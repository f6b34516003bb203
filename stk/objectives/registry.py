"""Objectives by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stk.config.named import find_named
from stk.config.strict import build
from stk.objectives.base import Objective
from stk.objectives.bimodal import Bimodal, BimodalObjectiveConfig
from stk.objectives.causal_lm import CausalLm
from stk.objectives.classification import Classification, ClassificationConfig
from stk.objectives.consecutive import Consecutive, ConsecutiveConfig
from stk.objectives.contrastive import Contrastive, ContrastiveConfig
from stk.objectives.cross_entropy import CrossEntropy, CrossEntropyConfig
from stk.objectives.ctc import Ctc, CtcConfig
from stk.objectives.denoising import Denoising, DenoisingConfig
from stk.objectives.distillation import Distillation, DistillationConfig
from stk.objectives.joint import Joint, JointConfig
from stk.objectives.lut import Understanding, UnderstandingConfig
from stk.objectives.masked_lm import MaskedLm, MaskedLmConfig, TranslationLm
from stk.objectives.mass import Mass, MassConfig
from stk.objectives.monolingual import LanguageModellingConfig
from stk.objectives.mrasp import Mrasp, MraspConfig
from stk.objectives.noised_translation import NoisedTranslation, NoisedTranslationConfig
from stk.objectives.online_back_translation import (
    OnlineBackTranslation,
    OnlineBackTranslationConfig,
)

OBJECTIVES: dict[str, tuple[type[Any], type[Any]]] = {
    "bimodal": (BimodalObjectiveConfig, Bimodal),
    "causal_lm": (LanguageModellingConfig, CausalLm),
    "classification": (ClassificationConfig, Classification),
    "consecutive": (ConsecutiveConfig, Consecutive),
    "contrastive": (ContrastiveConfig, Contrastive),
    "cross_entropy": (CrossEntropyConfig, CrossEntropy),
    "ctc": (CtcConfig, Ctc),
    "denoising": (DenoisingConfig, Denoising),
    "distillation": (DistillationConfig, Distillation),
    "joint": (JointConfig, Joint),
    "lut": (UnderstandingConfig, Understanding),
    "masked_lm": (MaskedLmConfig, MaskedLm),
    "mass": (MassConfig, Mass),
    "mrasp": (MraspConfig, Mrasp),
    "noised_translation": (NoisedTranslationConfig, NoisedTranslation),
    "online_back_translation": (OnlineBackTranslationConfig, OnlineBackTranslation),
    "translation_lm": (MaskedLmConfig, TranslationLm),
}
"""Name -> (configuration dataclass, objective class)."""


def build_objective(named: Mapping[str, Any]) -> Objective:
    """Build an objective from the key ``objective`` of a stream.

    Args:
        named: ``name`` and the keys of that objective's configuration.

    Raises:
        StkError: unknown name or key, or a wrong value.
    """
    config_class, objective_class = find_named("objective", named.get("name"), OBJECTIVES)
    keys = {key: value for key, value in named.items() if key != "name"}
    objective: Objective = objective_class(build(config_class, keys, where="objective"))
    return objective
