"""The settings of a run: names, units, ranges and how they are read. Nothing here imports torch."""

from cdcd_video.config.baselines import AutoregressiveBaseline, CategoricalFlowBaseline, FlowSection, GaussianBaseline
from cdcd_video.config.data_section import DigitsData, FolderData, SpritesData
from cdcd_video.config.loss_section import CdcdContrastConfig, ContrastConfig, LossConfig
from cdcd_video.config.processes import BridgeProcess, CdcdProcess, HybridProcess, MaskProcess, ReplaceProcess
from cdcd_video.config.registries import BASELINES, CONTRAST_TERMS, PROCESSES, BaselineSection, ProcessSection
from cdcd_video.config.sampling_params import FrameRate, Order, SamplingParams
from cdcd_video.config.schema import (
    ClipConfig,
    CodecConfig,
    Config,
    DenoiserConfig,
    DiffusionConfig,
    FsqConfig,
    PictureConfig,
    PretrainedClip,
    VqConfig,
)
from cdcd_video.config.section import Section
from cdcd_video.config.train_section import DenoiserTrainConfig, TrainConfig, TrainStages
from cdcd_video.config.value_types import MAX_CLIPS, MAX_LAYERS, Count, FitMode, SizePx

__all__ = [
    "BASELINES",
    "CONTRAST_TERMS",
    "MAX_CLIPS",
    "MAX_LAYERS",
    "PROCESSES",
    "AutoregressiveBaseline",
    "BaselineSection",
    "BridgeProcess",
    "CategoricalFlowBaseline",
    "CdcdContrastConfig",
    "CdcdProcess",
    "ClipConfig",
    "CodecConfig",
    "Config",
    "ContrastConfig",
    "Count",
    "DenoiserConfig",
    "DenoiserTrainConfig",
    "DiffusionConfig",
    "DigitsData",
    "FitMode",
    "FlowSection",
    "FolderData",
    "FrameRate",
    "FsqConfig",
    "GaussianBaseline",
    "HybridProcess",
    "LossConfig",
    "MaskProcess",
    "Order",
    "PictureConfig",
    "PretrainedClip",
    "ProcessSection",
    "ReplaceProcess",
    "SamplingParams",
    "Section",
    "SizePx",
    "SpritesData",
    "TrainConfig",
    "TrainStages",
    "VqConfig",
]
