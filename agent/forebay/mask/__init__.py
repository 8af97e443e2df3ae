"""Masking before disk: what is personal is found and masked here, and the guard stops what is left."""

from forebay.mask.guard import Guard
from forebay.mask.images import Detector
from forebay.mask.masker import Masker
from forebay.mask.policy import Policy, load_policy

__all__ = ["Detector", "Guard", "Masker", "Policy", "load_policy"]
