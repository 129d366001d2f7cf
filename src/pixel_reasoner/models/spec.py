"""Picklable model specification, for the command line and other processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import PositiveFloat, PositiveInt, with_config
from typing_extensions import TypedDict

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import UsageError, require_extra
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings, model_folder
from pixel_reasoner.models.hub import local_model
from pixel_reasoner.models.registry import (
    LoadedModel,
    check_registered,
    is_registered,
    load_registered,
)

if TYPE_CHECKING:
    from pixel_reasoner.models.local import LocalModel
    from pixel_reasoner.models.remote import RemoteModel


@with_config(extra="forbid")
class ModelOptions(TypedDict, total=False):
    """Options of `load`: fields of `ModelSpec`."""

    device: str | None
    dtype: str | None
    dialect: str | None
    compiled: bool
    overview_px: PositiveInt | None
    crop_px: PositiveInt | None
    protocol: str
    server: str | None
    key_file: Path | None
    timeout_s: PositiveFloat
    concurrency: PositiveInt


class ModelSpec(NamedTuple):
    """Specification of a local or remote model. Creating it loads nothing. It can be pickled.

    >>> ModelSpec("served", endpoints=("http://localhost:8000/v1",)).timeout_s
    300.0
    """

    name: str
    """`tiny`, a folder, a hub id, a model of a plug-in, or the name by which servers serve it"""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; None for a GPU if available"""
    dialect: str | None = None
    """overrides the dialect of the model folder and its detection"""
    endpoints: tuple[str, ...] = ()
    """URLs of servers; empty for a local model"""
    protocol: str = "text"
    """format of tool calls: text or native"""
    server: str | None = None
    """kind of the servers; None for detection from the model list of the first one"""
    key_file: Path | None = None
    """file with the API key, in the process that loads the model; None for the environment variable"""
    timeout_s: float = 300.0
    """timeout of a request including retries, per server"""
    concurrency: int = 16
    """maximum number of concurrent requests"""
    dtype: str | None = None
    """dtype of a local model: float32, bfloat16 or float16; None for the stored dtype, if the processor supports it"""
    compiled: bool = False
    """whether norms and MLPs of a local model are compiled"""
    overview_px: int | None = None
    """maximum pixels of an overview; None for the value of the folder or the dialect"""
    crop_px: int | None = None
    """maximum pixels of a result of an operation; None for the value of the folder or the dialect"""

    def load(self, *, operations: bool = True) -> LoadedModel:
        """Load the model.

        Args:
            operations: whether rollouts use operations, which the chat template must support.

        Raises:
            UsageError: conflicting values, or packages that are not installed.
            InputError: an unreadable key file.
            ModelError: no usable model.
            EndpointError: servers that do not serve it, cannot be reached, or see no pictures.
            PluginError: a model of a plug-in that cannot be used.
        """
        loaded: LoadedModel
        if self.endpoints:
            loaded = remote = self.connect()
            remote.probe()
        elif is_registered(self.name):
            loaded = load_registered(self)
        else:
            loaded = self._load_local(operations)
        budgets = loaded.budgets or get_dialect(loaded.dialect).budgets
        loaded.budgets = budgets.at_most(self.overview_px, self.crop_px)
        return loaded

    def check(self) -> None:
        """Raise the errors of `load` that require neither the weights nor a server.

        Raises:
            UsageError: an unusable device or dtype, or packages that are not installed.
            ModelError: no such model.
            PluginError: a model of a plug-in that cannot be imported.
        """
        if self.endpoints:
            return
        if is_registered(self.name):
            check_registered(self.name)
            return
        local_model(self.name)
        with require_extra("local", "run a model"):
            from pixel_reasoner.models.local_weights import check_device, check_dtype
        check_dtype(self.dtype)
        if self.device:
            check_device(self.device)

    def _load_local(self, operations: bool) -> LocalModel:
        local_model(
            self.name
        )  # before the import of torch, so that an unreachable hub fails within seconds
        with require_extra("local", "run a model"):
            from pixel_reasoner.models.local import LocalModel
        return LocalModel(
            self.name,
            device=self.device,
            dtype=self.dtype,
            dialect=self.dialect,
            operations=operations,
            compiled=self.compiled,
        )

    def connect(self) -> RemoteModel:
        """Return the remote model without a probe. Requests only the list of models of the first server.

        Raises:
            UsageError: conflicting values, or packages that are not installed.
            InputError: an unreadable key file.
            EndpointError: servers that do not serve the model.
        """
        from pixel_reasoner.models.endpoint_url import read_key
        from pixel_reasoner.models.http_pool import RetryPolicy
        from pixel_reasoner.models.openai_chat import ServerKind, ToolProtocol
        from pixel_reasoner.models.remote import RemoteConfig, RemoteModel

        try:
            protocol = ToolProtocol(self.protocol)
            server = ServerKind(self.server) if self.server else None
        except ValueError as error:
            raise UsageError(
                expected=f"--protocol {', '.join(ToolProtocol)} and --server {', '.join(ServerKind)}",
                got=str(error),
                fix="correct the option",
            ) from error
        # The name may be a local folder that a server loaded, which contains dialect and budgets.
        settings = folder_settings(model_folder(self.name), self.dialect)
        return RemoteModel(
            RemoteConfig(
                name=str(model_folder(self.name)) if self.name in BUNDLED_MODELS else self.name,
                other_name=self.name,
                endpoints=self.endpoints,
                dialect=settings.dialect,
                budgets=settings.budgets,
                protocol=protocol,
                server=server,
                api_key=read_key(self.key_file),
                policy=RetryPolicy(timeout_s=self.timeout_s, concurrency=self.concurrency),
            )
        )


def only_served_model(endpoint: str, key_file: Path | None = None) -> str:
    """Return the name of the only model of a server.

    Raises:
        UsageError: an invalid URL, several models, or a server without a list of models.
        EndpointError: the server cannot be reached.
    """
    from pixel_reasoner.models.endpoint_url import read_key
    from pixel_reasoner.models.http_pool import RetryPolicy
    from pixel_reasoner.models.remote import served_models

    names = served_models(endpoint, read_key(key_file), RetryPolicy())
    if len(names) != 1:
        raise UsageError(
            expected="the name of the model",
            got=f"none, and the server lists {', '.join(names[:20]) or 'no models'}",
            fix="name one of these" if names else "name the model",
        )
    return names[0]
