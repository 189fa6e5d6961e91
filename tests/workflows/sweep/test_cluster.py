"""Points on Ray, started on this machine."""

import json
import os
import socket
import subprocess
import sys

import pytest
from command import command
from small import small_recipe

from numprune_export import recipe as recipes
from numprune_export.cli.progress.events import ANY
from numprune_export.core.errors import RecipeError
from numprune_export.workflows.sweep.cluster import Cluster, Node, _on, one_gpu_each
from numprune_export.workflows.sweep.sight import sees
from numprune_export.workflows.sweep.work import Job

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")

BLIND = """
import os, sys
from pathlib import Path
import ray
from numprune_export.core.errors import InputError
from numprune_export.workflows.sweep import cluster

# A path that means the folder in this process only, as an unshared disk's does on one machine.
mine = Path(f"/proc/self/fd/{os.open(sys.argv[1], os.O_RDONLY)}")
with cluster.connected(ray, "local", quiet=True):
    print(ray.get_runtime_context().gcs_address)
    try:
        cluster.check_folder(ray, cluster.nodes_of(ray), mine / "out" / "shared")
    except InputError as error:
        print(error, error.hint, sep="; ", flush=True)
    sys.stdin.read()
"""


TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "RAY_worker_niceness": "0"}
"""A cluster admits who knows its token."""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The address of a cluster on this machine, and what it says of a folder that no node sees."""
    folder = tmp_path_factory.mktemp("cluster")
    process = subprocess.Popen(
        [sys.executable, "-c", BLIND, str(folder)],
        env={**os.environ, **TOKEN, "RAY_TMPDIR": f"/tmp/np{folder.stat().st_ino}"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        yield process.stdout.readline().strip(), process.stdout.readline()
        process.stdin.close()


@pytest.mark.slow
def test_a_sweep_on_ray_calibrates_once_and_does_every_point(started, tmp_path):
    address, _ = started
    small_recipe(tmp_path, targets={})
    arguments = ("--keep", "0.8,0.5", "--ray", address, "--out", "out", "--json")
    done = command("sweep", "small.yaml", *arguments, cwd=tmp_path, **TOKEN)
    assert done.code == 0, done.err
    sweep = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [point["status"] for point in sweep["points"]] == ["done", "done"]
    log = "".join(path.read_text() for path in tmp_path.glob("out/points/*/log"))
    assert log.count(" score: made") == 1
    assert log.count(" validate.dense: made") == 1
    assert log.count(" benchmark: made") == 2
    events = [ANY.validate_json(line) for line in done.out.splitlines()]
    begun = {(event.stage, event.point) for event in events if event.event == "begin"}
    assert ("score", "keep0.8") in begun
    assert "prune" not in {stage for stage, _ in begun}, "made on a node: not streamed"
    ended = [event.point for event in events if event.event == "point"]
    assert sorted(ended) == ["keep0.5", "keep0.8"]
    assert (events[0].event, events[-1].event) == ("start", "sweep")


@pytest.mark.slow
def test_a_node_that_does_not_see_the_folder_is_named(started):
    _, said = started
    assert "does not see `/proc/self/fd/" in said
    assert "mount at the same path" in said


def test_an_address_where_nothing_listens_is_refused_at_once(tmp_path):
    small_recipe(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = command("sweep", "small.yaml", "--keep", "0.8", "--ray", address, cwd=tmp_path)
    assert done.code == 2, done.err
    assert f"`--ray {address}`: cannot reach a Ray cluster" in done.err
    assert not (tmp_path / "runs").exists()


def test_points_on_cuda_take_one_gpu_each():
    nodes = [
        Node(56 * "a", "host-a", 16.0, 4.0),
        Node("b", "host-b", 8.0, 0.0),
        Node("c", "c", 1.0, 2.0),
    ]
    shares = one_gpu_each(nodes)
    assert [(share.id, share.cpus, share.gpus) for share in shares] == [
        *[(56 * "a", 4.0, 1.0)] * 4, ("c", 1.0, 1.0), ("c", 1.0, 1.0),
    ]  # fmt: skip
    options = _on(ray, shares[0], sees)._default_options
    assert (options["num_gpus"], options["num_cpus"]) == (1.0, 4.0)
    assert options["scheduling_strategy"].node_id == 56 * "a"
    with pytest.raises(RecipeError, match="no node of the Ray cluster offers a GPU"):
        one_gpu_each(nodes[1:2])


def test_a_gpu_named_by_its_number_is_refused_at_once(tmp_path):
    recipe = recipes.load(small_recipe(tmp_path, device="cuda:1"))
    job = Job("keep0.8", recipe, "small", tmp_path / "run", tmp_path / "shared", (), None)
    with pytest.raises(RecipeError, match="`device: cuda:1` names one GPU, but Ray chooses"):
        next(Cluster("local", None).run([job]))
    assert not (tmp_path / "shared").exists()
