"""Points on a Ray cluster, each alone on a node: two on one machine would time each other.

The sweep's folder lies on a disk that all nodes mount at the same path.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numprune_export.core.errors import InputError, RecipeError
from numprune_export.core.fresh_process import empty_working_folder
from numprune_export.core.optional import require
from numprune_export.core.run_folder import key_of
from numprune_export.pipeline.stages.calibrate import reads_moments
from numprune_export.workflows.sweep.local import Local
from numprune_export.workflows.sweep.work import Failure, Job, Watch, learn, work

LOCAL = "local"
"""The address that starts Ray on this machine, for the time of the sweep."""

_LOCAL_STORE_BYTES = 100 * 1024 * 1024
"""Points hand over files, not objects."""
_PATIENCE_S = 300.0
"""A node may have to start a process and import PyTorch while it does other work."""
_KNOCK_S = 5.0
_STARTS = 5
_GAVE_UP = "timed out during startup"
_LEARNT = {
    "model",
    "query_heads",
    "calibration",
    "score",
    "seed",
    "matmul_precision",
    "generated_text",
}


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, taken whole."""

    id: str
    address: str
    cpus: float
    gpus: float


class Cluster:
    """See Executor."""

    def __init__(
        self, address: str, watch: Watch, *, most: int | None = None, quiet: bool = False
    ) -> None:
        """
        Args:
            address: `local`, `auto`, `host:port` or `ray://host:port`.
            watch: Opens the observer of a point on its node; that of a job is this machine's.
            most: Points at once; None: one per node.
            quiet: Do not show what the nodes print.
        """
        self._address, self._watch = address, watch
        self._most, self._quiet = most, quiet

    def check(self) -> None:
        """See Executor.check: Ray itself tries for minutes where nothing listens.

        Raises:
            MissingExtraError: Ray is not installed.
            RecipeError: nothing listens at the address.
        """
        require("ray", extra="ray")
        host, colon, port = self._address.removeprefix("ray://").rpartition(":")
        if not colon:
            return
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
        except (OSError, ValueError) as error:
            raise _unreachable(self._address, str(error)) from None

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Failure | None]]:
        """See Executor.run. What the dense model shows of itself is made here first, once.

        Raises:
            MissingExtraError: Ray is not installed.
            RecipeError: the cluster cannot be reached.
            InputError: a node does not see the sweep's folder.
        """
        ray = require("ray", extra="ray")
        with connected(ray, self._address, quiet=self._quiet):
            nodes = nodes_of(ray)[: self._most]
            if jobs:
                check_folder(ray, nodes, jobs[0].shared)
            failed = _learn(jobs)
            for job in jobs:
                if (failure := failed[_learns(job)]) is not None:
                    yield job, failure
            left = [one for one in jobs if failed[_learns(one)] is None]
            yield from _spread(ray, nodes, [replace(one, watch=self._watch) for one in left])


def _learn(jobs: Sequence[Job]) -> dict[str, Failure | None]:
    """By what is learnt, what became of it; done here, once for all jobs that need the same."""
    first = {_learns(job): job for job in reversed(jobs)}
    return {_learns(job): failure for job, failure in Local(learn).run(list(first.values()))}


def _learns(job: Job) -> str:
    """What calibration and scores of the dense model depend on. Scores that ask for the budget are
    left to each point."""
    content = job.recipe.model_dump(include=_LEARNT, mode="json")
    return key_of(content, reads_moments(job.recipe))


def _spread(
    ray: Any, nodes: Sequence[Node], jobs: Sequence[Job]
) -> Iterator[tuple[Job, Failure | None]]:
    """Hand each free node the next job; a node that is lost gets no more."""
    waiting, free = list(jobs), list(nodes)
    at_work: dict[Any, tuple[Job, Node]] = {}
    try:
        while waiting or at_work:
            while waiting and free:
                job, node = waiting.pop(0), free.pop(0)
                at_work[_on(ray, node, work).remote(job)] = (job, node)
            if not at_work:
                yield from ((job, _no_node()) for job in waiting)
                return
            done, _ = ray.wait(list(at_work), num_returns=1)
            job, node = at_work.pop(done[0])
            failure, lost = _result(ray, done[0], node)
            if not lost:
                free.append(node)
            yield job, failure
    finally:
        for one in at_work:
            ray.cancel(one, force=True)


def _result(ray: Any, reference: Any, node: Node) -> tuple[Failure | None, bool]:
    """What became of a job, and whether its node is lost."""
    errors = ray.exceptions
    try:
        return ray.get(reference), False
    except errors.RayTaskError as error:
        last = str(error).strip().splitlines()[-1]
        return Failure(
            f"on node `{node.address}`: {last}", "look at the node's log under Ray's session", 1
        ), False
    except errors.WorkerCrashedError:
        return Failure(
            f"its process on node `{node.address}` was killed",
            "if the system killed it for its memory, lower `calibration.batch`",
            1,
        ), False
    except errors.RayError as error:
        last = str(error).strip().splitlines()[-1]
        return Failure(f"node `{node.address}` was lost: {last}", "look after the node", 1), True


def _no_node() -> Failure:
    return Failure("no node of the cluster is left", "start the same sweep again", 1)


def _on(ray: Any, node: Node, do: Any) -> Any:
    """A task that needs this whole node, in a process that ends with it."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    whole = ray.remote(
        num_cpus=node.cpus,
        num_gpus=node.gpus,
        max_retries=0,
        max_calls=1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
    )
    return whole(do)


def nodes_of(ray: Any) -> list[Node]:
    """Alive nodes that offer processors.

    Raises:
        RecipeError: there is none.
    """
    found = [
        Node(
            one["NodeID"],
            one["NodeManagerAddress"],
            one["Resources"]["CPU"],
            one["Resources"].get("GPU", 0.0),
        )
        for one in ray.nodes()
        if one["Alive"] and one["Resources"].get("CPU", 0) > 0
    ]
    if not found:
        raise RecipeError(
            "no node of the Ray cluster offers processors",
            hint="start nodes by `ray start --address=…`",
        )
    return found


def check_folder(ray: Any, nodes: Sequence[Node], shared: Path) -> None:
    """Put a token into the folder and let every node look for it.

    Raises:
        InputError: a node does not see it.
    """
    shared.mkdir(parents=True, exist_ok=True)
    token = shared / f".seen-{uuid.uuid4().hex}"
    token.touch()
    try:
        looks = {one.address: _on(ray, one, sees).remote(token) for one in nodes}
        for address, look in looks.items():
            if not _seen(ray, look, address):
                raise InputError(
                    f"node `{address}` does not see `{shared.parent}`",
                    hint="give an `--out` on a disk that all nodes mount at the same path",
                )
    finally:
        token.unlink(missing_ok=True)


def sees(file: Path) -> bool:
    """Run on a node: whether it has the file, and this package."""
    return file.is_file()


def _seen(ray: Any, look: Any, address: str) -> bool:
    try:
        return bool(ray.get(look, timeout=_PATIENCE_S))
    except ray.exceptions.GetTimeoutError:
        raise InputError(
            f"node `{address}` is busy: it did not answer in {_PATIENCE_S:.0f} s",
            hint="wait until its processors are free: a point takes a node whole",
        ) from None
    except ray.exceptions.RayTaskError as error:
        last = str(error).strip().splitlines()[-1]
        raise InputError(
            f"node `{address}` cannot run points: {last}",
            hint="install the same numprune-export there",
        ) from None


def _unreachable(address: str, why: str) -> RecipeError:
    return RecipeError(
        f"`--ray {address}`: no Ray cluster can be reached: {why}",
        hint="give `local`, or the address that `ray start --head` printed",
    )


def _start(ray: Any, options: dict[str, Any]) -> None:
    """Connect; on a busy machine start Ray again where it gave itself up.

    Raises:
        RuntimeError: it never came up.
    """
    for _ in range(_STARTS):
        try:
            ray.init(**options)
            return
        except Exception as error:
            # Ray waits 30 s for its own processes, which no setting changes, and then raises no class of its own.
            if _GAVE_UP not in str(error):
                raise
            last = str(error)
            ray.shutdown()
    raise RuntimeError(last)


@contextmanager
def connected(ray: Any, address: str, *, quiet: bool) -> Iterator[None]:
    """
    Raises:
        RecipeError: nothing answers at the address.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"address": address, "log_to_driver": not quiet}
    if address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": _LOCAL_STORE_BYTES}
    try:
        with empty_working_folder():  # Ray puts the driver's on its workers' import path
            _start(ray, options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise _unreachable(address, first) from None
    try:
        yield
    finally:
        ray.shutdown()
