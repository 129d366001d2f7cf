"""Lets `import torchvision` succeed beside the CPU build of torch, for a vLLM process with this folder on PYTHONPATH.

torchvision on PyPI is built for CUDA: its compiled operators cannot be loaded beside the CPU build of torch, which is what vLLM
for the CPU needs. Processors of pictures use none of these operators, but the import registers shapes of two of them, which
fails for undeclared operators. A CPU build of torchvision (`0.28.0+cpu`) needs no declaration.
"""

from importlib.metadata import PackageNotFoundError, version


def declare_operators() -> None:
    """Declare the operators without implementations, if torchvision cannot load them."""
    try:
        is_loadable = version("torchvision").endswith("+cpu") or "+cpu" not in version("torch")
    except PackageNotFoundError:
        return
    if is_loadable:
        return
    import torch

    global library  # declarations end when it is collected
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


declare_operators()
