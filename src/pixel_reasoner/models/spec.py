"""Model by name and plain values, as the command line and other processes specify it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import PositiveFloat, PositiveInt, with_config
from typing_extensions import TypedDict

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import UsageError, packages_of
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
    """Which model, in this process or behind servers. Creating it loads nothing; it can be pickled.

    >>> ModelSpec("served", endpoints=("http://localhost:8000/v1",)).timeout_s
    300.0
    """

    name: str
    """`tiny`, a folder, a hub id, a model of a plug-in, or the name by which servers serve it"""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; None: a GPU if there is one"""
    dialect: str | None = None
    """overrides the dialect of the model's folder, or the detected one"""
    endpoints: tuple[str, ...] = ()
    """addresses of servers; none: the model runs in the process that loads it"""
    protocol: str = "text"
    """how calls of operations are transferred: text or native"""
    server: str | None = None
    """kind of the servers; None: by the model list of the first one"""
    key_file: Path | None = None
    """read where the model is loaded; None: the environment there"""
    timeout_s: float = 300.0
    """time of a request with its retries, for each server"""
    concurrency: int = 16
    """requests in progress at once"""
    dtype: str | None = None
    """of a local model: float32, bfloat16 or float16; None: as stored, if the processor supports that"""
    compiled: bool = False
    """whether norms and MLPs of a local model are compiled"""
    overview_px: int | None = None
    """pixels of an overview at most; None: as the folder or the dialect sets it"""
    crop_px: int | None = None
    """pixels of a result of an operation at most; None: as above"""

    def load(self, *, operations: bool = True) -> LoadedModel:
        """Load the model.

        Args:
            operations: whether operations will be offered, which its chat template must support.

        Raises:
            UsageError: values that do not fit together, or packages that are not installed.
            InputError: a key file that cannot be read.
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
        """Raise the errors of `load` that need neither the weights nor a server.

        Raises:
            UsageError: a device or dtype that cannot be used, or packages that are not installed.
            ModelError: no such model.
            PluginError: a model of a plug-in that cannot be imported.
        """
        if self.endpoints:
            return
        if is_registered(self.name):
            check_registered(self.name)
            return
        local_model(self.name)
        with packages_of("local", "run a model"):
            from pixel_reasoner.models.local_weights import check_device, check_dtype
        check_dtype(self.dtype)
        if self.device:
            check_device(self.device)

    def _load_local(self, operations: bool) -> LocalModel:
        local_model(self.name)  # before torch is imported: a hub that does not answer costs seconds
        with packages_of("local", "run a model"):
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
        """Return the model behind its servers, without a probe. The first server is asked for its list of models.

        Raises:
            UsageError: values that do not fit together, or packages that are not installed.
            InputError: a key file that cannot be read.
            EndpointError: servers that do not serve it.
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
        # The name may be a folder that a server loaded; it then contains dialect and budgets.
        settings = folder_settings(model_folder(self.name), self.dialect)
        return RemoteModel(
            RemoteConfig(
                name=str(model_folder(self.name)) if self.name in BUNDLED_MODELS else self.name,
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
    """Return the name of the model of a server that serves one.

    Raises:
        UsageError: an invalid address, several models, or a server without a list of them.
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
