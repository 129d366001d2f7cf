"""A model by its name and a few plain values, as the command line and other processes are given it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import UsageError, packages_of
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings, model_folder

if TYPE_CHECKING:
    from pixel_reasoner.models.local import LocalModel
    from pixel_reasoner.models.remote import RemoteModel


class ModelSpec(NamedTuple):
    """Which model, in this process or behind servers. Costs nothing until it is loaded, and can be sent elsewhere.

    >>> ModelSpec("served", endpoints=("http://localhost:8000/v1",)).timeout_s
    300.0
    """

    name: str
    """`tiny`, a folder, a hub id, or the name by which servers serve it"""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; None: a GPU if there is one"""
    dialect: str | None = None
    """overrides what the model's folder says, or what it looks like"""
    endpoints: tuple[str, ...] = ()
    """addresses of servers; none: the model runs in the process that loads it"""
    protocol: str = "text"
    """how operations travel: text or native"""
    server: str | None = None
    """the servers' kind; None: what the first says of itself"""
    key_file: Path | None = None
    """read where the model is loaded; None: the environment there"""
    timeout_s: float = 300.0
    """to wait for a server"""
    concurrency: int = 16
    """requests under way at once"""
    dtype: str | None = None
    """of a model in this process: float32, bfloat16 or float16; None: as stored, where the processor multiplies that"""
    compiled: bool = False
    """whether norms and MLPs of a model in this process are compiled"""
    overview_px: int | None = None
    """of a picture at most; None: as its folder or dialect has it"""
    crop_px: int | None = None
    """of what an operation returns, likewise"""

    def load(self, *, operations: bool = True) -> LocalModel | RemoteModel:
        """The model.

        Args:
            operations: whether it will be offered operations, which its chat template must be able to carry.

        Raises:
            UsageError: values that do not fit, or packages that are not installed.
            InputError: a key file that cannot be read.
            ModelError: no usable model.
            EndpointError: servers that do not serve it, cannot be reached, or see no pictures.
        """
        loaded: LocalModel | RemoteModel
        if self.endpoints:
            loaded = self.behind_servers()
            loaded.probe()
        else:
            loaded = self._here(operations)
        budgets = loaded.budgets or get_dialect(loaded.dialect).budgets
        loaded.budgets = budgets.at_most(self.overview_px, self.crop_px)
        return loaded

    def _here(self, operations: bool) -> LocalModel:
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

    def behind_servers(self) -> RemoteModel:
        """The model behind its servers, which have not been asked anything but what they serve.

        Raises:
            UsageError: values that do not fit, or packages that are not installed.
            InputError: a key file that cannot be read.
            EndpointError: servers that do not serve it.
        """
        from pixel_reasoner.models.http_pool import RetryPolicy, read_key
        from pixel_reasoner.models.openai_chat import ServerKind, ToolProtocol
        from pixel_reasoner.models.remote import RemoteModel, Service

        try:
            protocol = ToolProtocol(self.protocol)
            server = ServerKind(self.server) if self.server else None
        except ValueError as error:
            raise UsageError(
                expected=f"--protocol {', '.join(ToolProtocol)} and --server {', '.join(ServerKind)}",
                got=str(error),
                fix="correct the option",
            ) from error
        # A server may be given a folder, which then says how its model is asked.
        settings = folder_settings(model_folder(self.name), self.dialect)
        return RemoteModel(
            Service(
                name=str(model_folder(self.name)) if self.name in BUNDLED_MODELS else self.name,
                endpoints=self.endpoints,
                dialect=settings.dialect,
                budgets=settings.budgets,
                protocol=protocol,
                server=server,
                api_key=read_key(self.key_file),
                manners=RetryPolicy(timeout_s=self.timeout_s, concurrency=self.concurrency),
            )
        )
