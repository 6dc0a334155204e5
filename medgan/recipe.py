"""Recipes: everything that decides a training, typed, with a sentence for each field.

A recipe is a YAML file. It loads into one of a few classes, by its `task`; unknown fields are refused, and every
message names the field, the value, the file and the nearest valid name. Amounts of training are counted in **images**
(volumes or patches seen), so that a recipe means the same at every batch size.
"""

from __future__ import annotations

from typing import TypeAlias

from medgan.recipe_encoding import EncodingNetwork, EncodingOptions, EncodingRecipe
from medgan.recipe_mask_to_scan import MaskToScanNetwork, MaskToScanOptions, MaskToScanRecipe
from medgan.recipe_options import (
    PenaltyOptions,
    Schedule,
    StopOptions,
    TrackingOptions,
    TrainingOptions,
    WatchdogOptions,
)
from medgan.recipe_super_resolution import (
    AcquisitionOptions,
    AdversarialStage,
    PretrainingStage,
    RandomAcquisition,
    RestorationStage,
    SuperResolutionNetwork,
    SuperResolutionOptions,
    SuperResolutionRecipe,
)
from medgan.recipe_synthesis import (
    AugmentationOptions,
    LabelOptions,
    LecamOptions,
    OptimizerOptions,
    PathLengthOptions,
    SynthesisNetwork,
    SynthesisOptions,
    SynthesisPenaltyOptions,
    SynthesisRecipe,
)
from medgan.recipe_translation import (
    TranslationNetwork,
    TranslationOptions,
    TranslationRecipe,
)

__all__ = [
    "AcquisitionOptions",
    "AdversarialStage",
    "AnyRecipe",
    "AugmentationOptions",
    "EncodingNetwork",
    "EncodingOptions",
    "EncodingRecipe",
    "LabelOptions",
    "LecamOptions",
    "MaskToScanNetwork",
    "MaskToScanOptions",
    "MaskToScanRecipe",
    "OptimizerOptions",
    "PathLengthOptions",
    "PenaltyOptions",
    "PretrainingStage",
    "RandomAcquisition",
    "RestorationStage",
    "Schedule",
    "StopOptions",
    "SuperResolutionNetwork",
    "SuperResolutionOptions",
    "SuperResolutionRecipe",
    "SynthesisNetwork",
    "SynthesisOptions",
    "SynthesisPenaltyOptions",
    "SynthesisRecipe",
    "TrackingOptions",
    "TrainingOptions",
    "TranslationNetwork",
    "TranslationOptions",
    "TranslationRecipe",
    "WatchdogOptions",
]

AnyRecipe: TypeAlias = SynthesisRecipe | SuperResolutionRecipe | TranslationRecipe | MaskToScanRecipe | EncodingRecipe
