"""Writes golden/torch.npz: the results of PyTorch for the cases of torch_cases.py. Run it after changing them."""

import warnings

import numpy as np
import torch
from torch_cases import CASES, GOLDEN, RESULTS


def forward(case):
    """Returns input, weight and output of a case, with the graph for its gradients."""
    x = torch.from_numpy(case.x).requires_grad_()
    w = torch.from_numpy(case.w).requires_grad_()
    with warnings.catch_warnings():
        # Some cases test "same" with an odd total, for which PyTorch warns of a copy.
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel", UserWarning)
        if case.module:
            return (x, *_module(case, x, w.detach()))
        return x, w, getattr(torch.nn.functional, case.function)(x, w, **case.parameters)


def _module(case, x, w):
    parameters = dict(case.parameters)
    size = {"output_size": parameters.pop("output_size")} if "output_size" in parameters else {}
    groups = parameters.get("groups", 1)
    c_out = w.shape[1] * groups if case.transposed else w.shape[0]
    kind = getattr(torch.nn, case.function)
    module = kind(x.shape[0], c_out, tuple(w.shape[2:]), bias=False, dtype=w.dtype, **parameters)
    assert module.weight.shape == w.shape, case.name
    module.weight = torch.nn.Parameter(w)
    return module.weight, module(x, **size)


def compute(case):
    """Returns the results of PyTorch for a case, by their names in RESULTS."""
    x, w, y = forward(case)
    y_bar = torch.from_numpy(case.draw("y_bar", tuple(y.shape)))
    results = (y, *torch.autograd.grad(y, (x, w), y_bar))  # the gradients of Re<y_bar, y>
    return {k: v.detach().resolve_conj().numpy() for k, v in zip(RESULTS, results, strict=True)}


def write(file):
    arrays = {f"{case.name}.{k}": v for case in CASES for k, v in compute(case).items()}
    np.savez_compressed(file, torch_version=np.array(torch.__version__), **arrays)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    write(GOLDEN)
    print(f"{GOLDEN.name}: {len(CASES)} cases, {GOLDEN.stat().st_size} bytes, PyTorch {torch.__version__}")
