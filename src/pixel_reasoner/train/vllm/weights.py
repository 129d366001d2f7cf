"""Weights of the trained model for vLLM servers: folders that appear at once, loaded and verified after every update."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import torch

from pixel_reasoner.errors import EndpointError
from pixel_reasoner.files import atomic_folder
from pixel_reasoner.train import distributed
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.folder import checkpoint_errors
from pixel_reasoner.train.rollouts.generator import token_type_ids_name
from pixel_reasoner.train.samples import PromptEncoder
from pixel_reasoner.train.vllm.check import ServerInfo, check_pictures
from pixel_reasoner.train.vllm.client import Prompt
from pixel_reasoner.train.vllm.servers import VllmServers, WeightVersion
from pixel_reasoner.train.vllm.source import BANNED_BIAS, Limits, VllmTurnSource
from pixel_reasoner.train.weights import write_weights

_PROBE_TEXT = "What does the picture show?"
_PROBE_TOKENS = 32
_PROBE_PX = 192
_FLOAT32_TOLERANCE = 1e-3
"""maximum mean difference between log-probabilities of the same weights, computed in 32 bits by vLLM and by transformers"""


class WeightPublisher:
    """Weights of a trainer on its vLLM servers. `sync_weights` is TRL's hook, called before the first rollouts of a policy.

    Args:
        trainer: a `GRPOTrainer`.
        run: configuration of the run, with `[vllm]`.
        info: properties of the servers.
    """

    def __init__(self, trainer: Any, run: RlRun, info: ServerInfo) -> None:
        assert run.vllm is not None
        self.trainer, self.run, self.info, self.options = trainer, run, info, run.vllm
        folder = Path(self.options.weights_dir or Path(run.out) / "vllm-weights")
        folder /= hashlib.sha256(str(Path(run.out).absolute()).encode()).hexdigest()[:8]
        self.servers = VllmServers(self.options, trainer._image_pad_token_id, folder.absolute())
        self.encoder = PromptEncoder(
            trainer.processing_class, trainer.eos_token_ids, trainer.chat_template_kwargs
        )
        self._run_id = distributed.main_process_result(lambda: uuid4().hex[:8])
        self._probe = Prompt([], [])
        self._num_answer = 0
        self._is_asleep = False
        self._source: VllmTurnSource | None = None

    def turn_source(self) -> VllmTurnSource:
        """Return the source of turns of this process."""
        config = self.trainer.generation_config
        biases = dict.fromkeys(map(str, config.suppress_tokens or ()), BANNED_BIAS)
        sampling = {
            "temperature": config.temperature,
            "top_p": 1.0 if config.top_p is None else config.top_p,
            "top_k": config.top_k or 0,
            "min_p": config.min_p or 0.0,
            "repetition_penalty": config.repetition_penalty or 1.0,
            "stop_token_ids": list(self.trainer.eos_token_ids),
            "ignore_eos": True,  # the trainer's end tokens alone end a turn
            "logit_bias": biases or None,
        }
        limits = Limits(sampling, config.max_new_tokens, self.info.max_model_len)
        self._source = VllmTurnSource(self.servers, limits)
        return self._source

    def check_pictures(self, budgets: Any) -> None:
        """Check that the servers divide pictures into the trainer's numbers of tokens. Collective.

        Raises:
            EndpointError: they do not.
        """
        distributed.main_process_result(
            lambda: check_pictures(self.servers.clients, self.encoder, budgets)
        )

    def sync_weights(self) -> None:
        """Publish the current weights, load them into all servers, and verify them. Collective.

        Raises:
            EndpointError: a server does not answer, or has other weights afterwards.
            OutputError: the folder of the weights cannot be written.
        """
        with self.trainer.meter.phase("weights"):
            self._sync_weights()

    def _sync_weights(self) -> None:
        self.wake_up()
        if not self._num_answer:
            self._probe, self._num_answer = distributed.main_process_result(self._make_probe)
        logprobs = self._probe_logprobs()
        state = distributed.full_state_dict(self.trainer)

        def publish() -> WeightVersion:
            version = self._publish(state, logprobs)
            self.servers.load(version)
            self._remove_other_folders(version)
            return version

        self.servers.current = distributed.main_process_result(publish)

    def _publish(self, state: dict[str, torch.Tensor], logprobs: list[float]) -> WeightVersion:
        name = f"{self._run_id}-{self.trainer.state.global_step}"
        folder = self.servers.folder / name
        uses_adapter = self.info.uses_adapter
        model = distributed.unwrap_model(self.trainer)
        with checkpoint_errors(folder), atomic_folder(folder) as part:
            if uses_adapter:
                model.save_pretrained(part, state_dict=state)
            else:
                write_weights(model, state, part, getattr(torch, self.info.dtype))
        is_exact = self.info.dtype == "float32" and not torch.cuda.is_available()
        return WeightVersion(
            name=name,
            folder=str(folder),
            is_adapter=uses_adapter,
            is_merged=bool(self.run.lora_rank),
            probe=self._probe,
            logprobs=logprobs,
            tolerance=_FLOAT32_TOLERANCE if is_exact else self.options.max_logprob_difference,
        )

    def _remove_other_folders(self, version: WeightVersion) -> None:
        for path in self.servers.folder.iterdir():
            if path.is_dir() and path.name != version.name:
                shutil.rmtree(path, ignore_errors=True)

    def __enter__(self) -> Self:
        """Return the publisher."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close all connections. The published weights of a finished run are removed; the servers keep what they have loaded."""
        if self._source is not None:
            self._source.close()
        self.servers.close()
        if kind is None and distributed.is_main_process(self.trainer):
            shutil.rmtree(self.servers.folder, ignore_errors=True)
            if not self.options.weights_dir:
                shutil.rmtree(self.servers.folder.parent, ignore_errors=True)

    # --- sleep mode ---

    def sleep(self) -> None:
        """Free the memory of colocated servers after the last rollouts of a policy. Collective."""
        if self.options.colocated_memory and not self._is_asleep:
            distributed.main_process_result(self.servers.sleep)
            self._is_asleep = True

    def wake_up(self) -> None:
        """Wake colocated servers before the first rollouts of a policy. Collective."""
        if self._is_asleep:
            distributed.main_process_result(self.servers.wake_up)
            self._is_asleep = False

    # --- the probe ---

    def _make_probe(self) -> tuple[Prompt, int]:
        """Return a prompt with a picture and an answer sampled by a server, and the length of the answer."""
        from PIL import Image

        picture = Image.linear_gradient("L").resize((_PROBE_PX, _PROBE_PX)).convert("RGB")
        content = [{"type": "image", "image": picture}, {"type": "text", "text": _PROBE_TEXT}]
        text = self.encoder.render([{"role": "user", "content": content}])
        ids = self.encoder.encode(text, [picture])
        sampling = {
            "temperature": 1.0,
            "seed": 0,
            "max_tokens": _PROBE_TOKENS,
            "ignore_eos": True,
            "logit_bias": dict.fromkeys(
                map(str, self.trainer.generation_config.suppress_tokens or ()), BANNED_BIAS
            ),
        }
        client = self.servers.clients[0]
        found = self.servers.retry(
            client, lambda: client.generate(Prompt(ids, [picture]), sampling)
        )
        if len(found.ids) != _PROBE_TOKENS:
            raise EndpointError(
                expected=f"{_PROBE_TOKENS} tokens from {client.url}",
                got=f"{len(found.ids)}",
                fix="raise --max-model-len of the server",
            )
        return Prompt([*ids, *found.ids], [picture]), _PROBE_TOKENS

    def _probe_logprobs(self) -> list[float]:
        """Return the log-probabilities of the probe's answer. Every process computes them, because weights may be sharded."""
        trainer, probe = self.trainer, self._probe
        device = trainer.accelerator.device
        ids = torch.tensor([list(probe.ids)], device=device)
        inputs = dict(
            trainer.processing_class.image_processor(images=list(probe.images), return_tensors="pt")
        )
        inputs[token_type_ids_name(inputs)] = (ids == trainer._image_pad_token_id).long()
        inputs = {name: value.to(device) for name, value in inputs.items()}
        model = trainer.model
        is_training = model.training
        model.eval()
        with torch.no_grad(), trainer.accelerator.autocast():
            logits = model(
                input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **inputs
            ).logits
        model.train(is_training)
        answer = ids[0, -self._num_answer :]
        scores = torch.log_softmax(logits[0, -self._num_answer - 1 : -1].float(), dim=-1)
        found: list[float] = scores.gather(1, answer[:, None])[:, 0].tolist()
        return found
