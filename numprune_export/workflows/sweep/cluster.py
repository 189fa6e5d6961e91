"""Run the points of a sweep on a Ray cluster, one per node so that timings do not interfere; those
that are pruned on CUDA, one per GPU.

The sweep folder is on a disk that all nodes mount at the same path.
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
from numprune_export.core.stage import key_of
from numprune_export.pipeline.stages.calibrate import reads_moments, rereads_moments
from numprune_export.workflows.sweep.local import Local
from numprune_export.workflows.sweep.sight import sees
from numprune_export.workflows.sweep.work import Failure, Job, Watch, learn, work

LOCAL = "local"
"""Address that starts Ray on this machine for the duration of the sweep."""

_LOCAL_STORE_BYTES = 100 * 1024 * 1024
"""Points exchange files, not objects."""
_PATIENCE_S = 300.0
"""A busy node may need this long to start a process and import PyTorch."""
_KNOCK_S = 5.0
_STARTS = 5
_GAVE_UP = "timed out during startup"
_LEARNT = {
    "model",
    "query_heads",
    "calibration",
    "score",
    "seed",
    "device",
    "matmul_precision",
    "generated_text",
}


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, or its share with one GPU; a point uses all of it."""

    id: str
    address: str
    cpus: float
    gpus: float


class Cluster:
    """Executor on a Ray cluster."""

    def __init__(
        self, address: str, watch: Watch, *, most: int | None = None, quiet: bool = False
    ) -> None:
        """
        Args:
            address: `local`, `auto`, `host:port` or `ray://host:port`.
            watch: Opens the observer of a point on its node.
            most: Maximum number of concurrent points; None: one per node, or per GPU.
            quiet: Hide the output of the nodes.
        """
        self._address, self._watch = address, watch
        self._most, self._quiet = most, quiet

    def check(self) -> None:
        """See Executor.check. Ray retries an unreachable address for minutes; this fails at once.

        Raises:
            MissingExtraError: Ray is not installed.
            RecipeError: no process listens at the address.
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
        """See Executor.run. Statistics and scores of the dense model are computed here first, once.

        Raises:
            MissingExtraError: Ray is not installed.
            RecipeError: the cluster cannot be reached, has no GPU for points on CUDA, or a recipe
                names a GPU by its number.
            InputError: a node does not see the sweep folder.
        """
        ray = require("ray", extra="ray")
        _require_no_number(jobs)
        with connected(ray, self._address, quiet=self._quiet):
            nodes = nodes_of(ray)
            if jobs and all(job.recipe.device == "cuda" for job in jobs):
                nodes = one_gpu_each(nodes)
            nodes = nodes[: self._most]
            if jobs:
                check_folder(ray, nodes, jobs[0].shared)
            failed = _learn(jobs)
            for job in jobs:
                if (failure := failed[_learns(job)]) is not None:
                    yield job, failure
            left = [job for job in jobs if failed[_learns(job)] is None]
            yield from _spread(ray, nodes, [replace(job, watch=self._watch) for job in left])


def _learn(jobs: Sequence[Job]) -> dict[str, Failure | None]:
    """Compute the shared results on this machine; outcome by key, one key per distinct set."""
    first = {_learns(job): job for job in reversed(jobs)}
    return {_learns(job): failure for job, failure in Local(learn).run(list(first.values()))}


def _learns(job: Job) -> str:
    """Key of the settings that calibration and scores of the dense model depend on.

    Scores that depend on the budget are computed by each point."""
    content = job.recipe.model_dump(include=_LEARNT, mode="json")
    return key_of(content, reads_moments(job.recipe), rereads_moments(job.recipe))


def _spread(
    ray: Any, nodes: Sequence[Node], jobs: Sequence[Job]
) -> Iterator[tuple[Job, Failure | None]]:
    """Give each free node the next job; a lost node gets no further jobs."""
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
        for reference in at_work:
            ray.cancel(reference, force=True)


def _result(ray: Any, reference: Any, node: Node) -> tuple[Failure | None, bool]:
    """Outcome of a job, and whether its node is lost."""
    errors = ray.exceptions
    try:
        return ray.get(reference), False
    except errors.RayTaskError as error:
        last = str(error).strip().splitlines()[-1]
        return Failure(
            f"on node `{node.address}`: {last}",
            "see the node's log in the folder of the Ray session",
            1,
        ), False
    except errors.WorkerCrashedError:
        return Failure(
            f"its process on node `{node.address}` was killed",
            "if it ran out of memory, lower `calibration.batch`",
            1,
        ), False
    except errors.RayError as error:
        last = str(error).strip().splitlines()[-1]
        return Failure(f"node `{node.address}` was lost: {last}", "check the node", 1), True


def _no_node() -> Failure:
    return Failure("no node of the cluster is left", "repeat the command to resume the sweep", 1)


def _on(ray: Any, node: Node, do: Any) -> Any:
    """A task that occupies the whole node, in a process that ends with the task."""
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
    """Alive nodes that offer CPUs.

    Raises:
        RecipeError: the cluster has no such node.
    """
    nodes = [
        Node(
            entry["NodeID"],
            entry["NodeManagerAddress"],
            entry["Resources"]["CPU"],
            entry["Resources"].get("GPU", 0.0),
        )
        for entry in ray.nodes()
        if entry["Alive"] and entry["Resources"].get("CPU", 0) > 0
    ]
    if not nodes:
        raise RecipeError(
            "no node of the Ray cluster offers CPUs",
            hint="start nodes with `ray start --address=…`",
        )
    return nodes


def one_gpu_each(nodes: Sequence[Node]) -> list[Node]:
    """The nodes as shares with one GPU, and an equal part of the CPUs, each. Ray shows a share's
    process its own GPU alone, as `cuda:0`.

    Raises:
        RecipeError: no node has a GPU.
    """
    shares = [
        replace(node, gpus=1.0, cpus=max(1.0, float(int(node.cpus / int(node.gpus)))))
        for node in nodes
        for _ in range(int(node.gpus))
    ]
    if not shares:
        raise RecipeError(
            "`device: cuda`, but no node of the Ray cluster offers a GPU",
            hint="start nodes with `ray start --num-gpus=…`, or set `device: cpu`",
        )
    return shares


def _require_no_number(jobs: Sequence[Job]) -> None:
    numbered = next((job.recipe.device for job in jobs if ":" in job.recipe.device), None)
    if numbered is not None:
        raise RecipeError(
            f"`device: {numbered}` names one GPU, but Ray chooses the GPU of a point",
            hint="set `device: cuda`",
        )


def check_folder(ray: Any, nodes: Sequence[Node], shared: Path) -> None:
    """Create a token file in the folder and check that every node sees it.

    Raises:
        InputError: a node does not see the file.
    """
    shared.mkdir(parents=True, exist_ok=True)
    token = shared / f".seen-{uuid.uuid4().hex}"
    token.touch()
    try:
        looks = {node.address: _on(ray, node, sees).remote(token) for node in nodes}
        for address, look in looks.items():
            if not _seen(ray, look, address):
                raise InputError(
                    f"node `{address}` does not see `{shared.parent}`",
                    hint="give an `--out` on a disk that all nodes mount at the same path",
                )
    finally:
        token.unlink(missing_ok=True)


def _seen(ray: Any, look: Any, address: str) -> bool:
    try:
        return bool(ray.get(look, timeout=_PATIENCE_S))
    except ray.exceptions.GetTimeoutError:
        raise InputError(
            f"node `{address}` is busy: it did not answer in {_PATIENCE_S:.0f} s",
            hint="wait until the node is idle: a point needs a whole node",
        ) from None
    except ray.exceptions.RayTaskError as error:
        last = str(error).strip().splitlines()[-1]
        raise InputError(
            f"node `{address}` cannot run points: {last}",
            hint="install the same numprune-export there",
        ) from None


def _unreachable(address: str, why: str) -> RecipeError:
    return RecipeError(
        f"`--ray {address}`: cannot reach a Ray cluster: {why}",
        hint="give `local`, or the address that `ray start --head` printed",
    )


def _start(ray: Any, options: dict[str, Any]) -> None:
    """Connect; retry if Ray timed out during startup on a busy machine.

    Raises:
        RuntimeError: Ray timed out every time.
    """
    for _ in range(_STARTS):
        try:
            ray.init(**options)
            return
        except Exception as error:
            # Ray waits a fixed 30 s for its own processes and then raises a generic exception.
            if _GAVE_UP not in str(error):
                raise
            last = str(error)
            ray.shutdown()
    raise RuntimeError(last)


@contextmanager
def connected(ray: Any, address: str, *, quiet: bool) -> Iterator[None]:
    """Connect to a cluster until the context ends.

    Raises:
        RecipeError: the address does not answer.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"address": address, "log_to_driver": not quiet}
    if address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": _LOCAL_STORE_BYTES}
    try:
        with (
            empty_working_folder()
        ):  # Ray adds the driver's working folder to its workers' import path
            _start(ray, options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise _unreachable(address, first) from None
    try:
        yield
    finally:
        ray.shutdown()
