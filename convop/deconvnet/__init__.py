"""Deconvolutional networks and convolutional sparse coding, on the operators of this package."""

from .coding import sparse_codes
from .images import local_contrast, remove_mean, rescale, snr
from .inference import Codes
from .layer import DeconvLayer
from .net import DeconvNet
from .proximal import prox

__all__ = [
    "Codes",
    "DeconvLayer",
    "DeconvNet",
    "local_contrast",
    "prox",
    "remove_mean",
    "rescale",
    "snr",
    "sparse_codes",
]
