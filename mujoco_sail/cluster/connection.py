"""Connection to a Ray cluster whose nodes share the results folder."""

import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from mujoco_sail.cluster import node
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.system.files import write_text
from mujoco_sail.training.spawning import DEFAULTS, FORCED

GONE_AFTER = 20.0  # seconds until Ray detects the loss of a node
TIMEOUT = 10.0  # seconds to wait for a connection
# Matrix products must use the same kernels as in this process (`mujoco_sail/__init__.py`).
VARIABLES = {**DEFAULTS, **FORCED, "MKL_CBWR": os.environ["MKL_CBWR"]}


class Cluster:
    """Connection to a Ray cluster, with a check of all nodes.

    Args:
        address: Address of the cluster, or "auto" for the cluster of this machine.
        results: Results folder, which all nodes must share.

    Attributes:
        cores: Number of cores of all nodes.
        gpus: Number of GPUs of all nodes.
        obstacle: Reason why a node cannot compile updates; empty if all can.

    Raises:
        UserError: Ray is not installed, there is no cluster at this address, no node has a core, or
            a node does not share the folder or has other versions.
    """

    def __init__(self, address: str, results: Path) -> None:
        if re.match(r"[a-z][a-z0-9+.-]*:/", str(results)):
            raise UserError(f"--results {results}: expected a folder that all nodes have mounted")
        self.ray = packages.load("ray", "--cluster")
        _check_answers(address)
        at_stop = signal.getsignal(signal.SIGTERM)
        try:
            self.ray.init(
                address=address,
                log_to_driver=False,
                logging_level="error",
                runtime_env={"env_vars": VARIABLES},
            )
        except Exception as error:  # types differ: no cluster, another version of Python
            raise UserError(f"--cluster {address}: {one_line(error)}") from error
        finally:
            signal.signal(signal.SIGTERM, at_stop)  # Ray's own ends with another exit code
        # Not resolved: what is a symbolic link here may be a mounted folder on the nodes.
        self.results, self.obstacle = Path(os.path.abspath(results)), ""
        resources = self.ray.cluster_resources()
        self.cores, self.gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        try:
            if not self.cores:
                raise UserError(f"--cluster {address}: no node has a core; start one that has")
            self._check()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnects from the cluster."""
        self.ray.shutdown()

    def nodes(self) -> dict[str, Any]:
        """Live nodes by their ids."""
        return {each["NodeID"]: each for each in self.ray.nodes() if each["Alive"]}

    def on(self, function: Any, node_id: str) -> Any:
        """Ray remote function or class that runs on one node and reserves no core."""
        kind = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        return self.ray.remote(function).options(
            num_cpus=0, scheduling_strategy=kind(node_id, soft=False)
        )

    def device(self, name: str) -> torch.device:
        """Selects the device for a value of `--device`.

        Raises:
            UserError: CUDA is requested, and no node has a GPU.
        """
        if name == "cuda" and not self.gpus:
            raise UserError("--device cuda: no node of the cluster has a GPU")
        return torch.device("cuda" if name != "cpu" and self.gpus else "cpu")

    def _lasts(self, node_id: str) -> bool:
        """Whether a node is still alive after the time in which Ray would detect its loss."""
        deadline = time.monotonic() + GONE_AFTER
        while time.monotonic() < deadline:
            if node_id not in self.nodes():
                return False
            time.sleep(0.2)
        return True

    def _check(self) -> None:
        """Checks every node.

        Raises:
            UserError: A node does not share the results folder or has other versions.
        """
        token = uuid.uuid4().hex
        probe = self.results / f".probe-{token}"
        try:
            write_text(probe, token)
        except OSError as error:
            raise UserError(
                f"--results {self.results}: cannot be written: {error.strerror}"
            ) from error
        try:
            own = node.describe(probe)
            for node_id, about in self.nodes().items():
                where = f"node {about['NodeManagerAddress']}"
                try:
                    found = self.ray.get(self.on(node.describe, node_id).remote(probe))
                except Exception as error:
                    if self._lasts(node_id):
                        reason = one_line(str(error).splitlines()[-1])
                        raise UserError(f"{where}: {reason}") from error
                else:
                    self._compare(own, found, where)
        finally:
            probe.unlink(missing_ok=True)

    def _compare(self, own: Mapping[str, Any], found: Mapping[str, Any], where: str) -> None:
        where = f"{where} ({found['host']})"
        if found["seen"] != own["seen"]:
            raise UserError(f"{where} does not see {self.results}")
        if found["obstacle"]:
            self.obstacle = f"{where}: {found['obstacle']}"
        for name, value in own.items():
            if name not in ("host", "obstacle") and found[name] != value:
                raise UserError(f"{where} has {name} {found[name]}, here is {value}")


def _check_answers(address: str) -> None:
    """Checks that the address accepts connections, because Ray would retry for minutes.

    Raises:
        UserError: The address is invalid or does not accept connections.
    """
    where = f"--cluster {address}"
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"  # the address that Ray would use
        where += f", RAY_ADDRESS={address}"
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal() or int(port) >= 2**16:
        raise UserError(
            f"{where}: expected auto or HOST:PORT as ray start prints it, such as 10.0.0.1:6379; "
            "neither ray:// nor the dashboard's http://"
        )
    try:
        socket.create_connection((host, int(port)), TIMEOUT).close()
    except (OSError, UnicodeError) as error:
        raise UserError(f"{where}: no cluster there: {error}") from error
