"""Options for commands on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from pixel_reasoner.cli.options import given_options, reject_options

if TYPE_CHECKING:
    from pixel_reasoner.integrations.ray_cluster import RayOptions as ClusterOptions
    from pixel_reasoner.integrations.ray_model import RayModel
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.schema.settings import RolloutConfig

RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Run on a Ray cluster: HOST:PORT of its head, `auto` for the cluster of this machine, or `local` for a new one.",
    ),
]
RayCpusOption = Annotated[
    float,
    typer.Option(
        min=0.0, help="CPUs that Ray reserves per actor; on a CPU also its number of threads."
    ),
]
RayGpusOption = Annotated[
    float | None,
    typer.Option(min=0.0, help="GPUs per actor [default: 1 if the cluster has any]"),
]


@dataclass(frozen=True)
class RayOptions:
    """Options of a Ray cluster."""

    panel: ClassVar[str] = "A Ray cluster"

    ray: RayOption = None
    ray_actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Actors, each with its own model and batch [default: one per GPU, or one per node]",
        ),
    ] = None
    ray_cpus: RayCpusOption = 0.0
    ray_gpus: RayGpusOption = None

    @property
    def count(self) -> int | None:
        """Number of actors; None for the default."""
        return self.ray_actors

    def check(self) -> None:
        """Raise an error for options without effect.

        Raises:
            UsageError: options of a cluster without `--ray`.
        """
        if self.ray is None:
            reject_options(given_options(self), "without --ray")


@dataclass(frozen=True)
class RayTrainOptions:
    """Options of training on a Ray cluster."""

    panel: ClassVar[str] = "A Ray cluster"

    ray: RayOption = None
    ray_workers: Annotated[
        int | None,
        typer.Option(min=1, help="Training processes [default: one per GPU, or one per node]"),
    ] = None
    ray_cpus: RayCpusOption = 0.0
    ray_gpus: RayGpusOption = None

    @property
    def count(self) -> int | None:
        """Number of workers; None for the default."""
        return self.ray_workers

    def check(self) -> None:
        """Raise an error for options without effect.

        Raises:
            UsageError: options of a cluster without `--ray`.
        """
        if self.ray is None:
            reject_options(given_options(self), "without --ray")


@contextmanager
def ray_cluster(
    options: RayOptions | RayTrainOptions, *, gpus: float | None = None
) -> Iterator[ClusterOptions]:
    """Connect to the cluster of `--ray` until the end of the context.

    Args:
        options: of the command.
        gpus: GPUs per actor if the options do not state them.

    Raises:
        UsageError: an unusable address or cluster.
        EndpointError: the cluster does not answer.
    """
    from pixel_reasoner.integrations import ray_cluster as clusters

    assert options.ray is not None, "options with an address"
    given = clusters.RayOptions(
        address=options.ray,
        actors=options.count,
        cpus=options.ray_cpus,
        gpus=gpus if options.ray_gpus is None else options.ray_gpus,
    )
    with clusters.connected(given) as connected:
        yield connected


@contextmanager
def model_on_ray(
    options: RayOptions,
    spec: ModelSpec,
    config: RolloutConfig,
    batch_size: int,
    open_decoder: Callable[[], Any] | None = None,
) -> Iterator[RayModel | None]:
    """Yield the model on the cluster of `--ray` until the end of the context; None without `--ray`.

    Args:
        options: of the command.
        spec: which model.
        config: of its rollouts.
        batch_size: rollouts in progress per actor.
        open_decoder: picklable function that returns the decoder of media in an actor.

    Raises:
        PixelReasonerError: the cluster or the model cannot be used.
    """
    options.check()
    if options.ray is None:
        yield None
        return
    # A client of servers needs no GPU.
    with ray_cluster(options, gpus=0.0 if spec.endpoints else None) as cluster:
        from pixel_reasoner.integrations.ray_model import RayModel

        with RayModel(
            spec,
            cluster,
            operations=bool(config.operations),
            batch_size=batch_size,
            open_decoder=open_decoder,
        ) as model:
            yield model
