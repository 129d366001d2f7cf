"""Plugin of vLLM that corrects its CPU build for training runs. The folder on PYTHONPATH is enough: vLLM finds its entry point.

`reload_weights` of vLLM 0.32 keeps the old output layer if it is tied to the input embeddings: the CPU build computes with a packed copy
of the weights, which is packed again only for layers whose weights are in the checkpoint. A GPU has no packed copy.
"""


def register() -> None:
    """Compute the output layer with the weights themselves."""
    import torch
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    def use_unpacked_weights(_: object, layer: torch.nn.Module) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    UnquantizedEmbeddingMethod.process_weights_after_loading = use_unpacked_weights
