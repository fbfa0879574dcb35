"""A graph that runs on another machine, by TVM's own RPC.

The server, ``python -m tvm.exec.rpc_server``, needs apache-tvm alone.
It runs whatever it is sent, for whoever reaches its port: for trusted networks only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import rpc
from tvm.runtime.vm import VirtualMachine

from tvm_vacc.artifact.archive import unpack_artifact
from tvm_vacc.artifact.kernel_files import LIBRARY_SUFFIX, SHARED_LIBRARY
from tvm_vacc.artifact.manifest import Manifest, TensorSpec
from tvm_vacc.artifact.mapped_weights import map_parameters
from tvm_vacc.artifact.store import open_artifact
from tvm_vacc.errors import ArtifactError
from tvm_vacc.runtime.graph import in_order
from tvm_vacc.runtime.library import GRAPH, WEIGHTS, LibraryMachine
from tvm_vacc.runtime.rpc_server import RpcServer, borrow_server
from tvm_vacc.runtime.signature import Signature
from tvm_vacc.runtime.tensors import to_numpy, to_tvm

_WEIGHT = "tvm_vacc_weight"


class RemoteGraph:
    """A graph whose kernels and weights are on a server. Make it with `open_remote`.

    Attributes:
        manifest: what it is.
    """

    def __init__(
        self, manifest: Manifest, server: RpcServer, machine: VirtualMachine, params: Any
    ) -> None:
        self.manifest = manifest
        self._server = server
        self._machine = machine
        self._params = params

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """See `Graph.inputs`."""
        return self.manifest.inputs

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Graph.run`; a server that fails is a `RequestError` too."""
        given = in_order(self.inputs, arrays)
        specs = self.manifest.outputs
        with self._server.answering():
            result = self._machine["forward"](*self._sent(given), self._params)
            if isinstance(result, tvm.runtime.Tensor):
                return {specs[0].name: _received(result)}
            element = self._server.session.get_function("vm.builtin.tuple_getitem")
            return {
                spec.name: _received(element(result, index)) for index, spec in enumerate(specs)
            }

    def seconds(
        self, arrays: Mapping[str, np.ndarray], *, repeat: int, number: int
    ) -> tuple[float, ...]:
        """See `Graph.seconds`; by the server's clock, without the way there and back."""
        given = in_order(self.inputs, arrays)
        with self._server.answering():
            evaluate = self._machine.module.time_evaluator(
                "forward", self._server.session.cpu(), number=number, repeat=repeat
            )
            return tuple(evaluate(*self._sent(given), self._params).results)

    def _sent(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        return [_send(to_tvm(array), self._server.session) for array in arrays]


@contextmanager
def open_remote(
    path: Path, host: str, port: int, key: str | None, timeout: int
) -> Iterator[RemoteGraph]:
    """Send the artefact in `path` to a server, which works for the caller in the block.

    Args:
        path: of a plain graph: a directory, a tar or a library, which is sent unchecked.
        host: see `borrow_server`; so are `port`, `key` and `timeout`.

    Raises:
        ArtifactError: the artefact is damaged, a language model, or its kernels are no library.
        RequestError: see `borrow_server`, or the server fails.
    """
    if path.is_file() and path.suffix == LIBRARY_SUFFIX:
        with borrow_server(host, port, key, timeout) as server:
            yield _send_library(path, server)
        return
    with tempfile.TemporaryDirectory(prefix="tvm_vacc-") as folder:
        directory = path
        if path.is_file():
            directory = Path(folder)
            unpack_artifact(path, directory)
        artifact = open_artifact(directory)
        manifest = artifact.manifest
        if manifest.kind != "graph":
            raise ArtifactError(
                f"{path}: is a language model", "copy it to where it is to run: tvm_vacc.load(path)"
            )
        if SHARED_LIBRARY not in manifest.files:
            raise ArtifactError(
                f"{path}: its kernels are no library, which RPC could send",
                "compile it where a C++ compiler is",
            )
        with borrow_server(host, port, key, timeout) as server:
            yield _send_artifact(artifact.path, manifest, server)


def _send_artifact(directory: Path, manifest: Manifest, server: RpcServer) -> RemoteGraph:
    """Return the graph in `directory`, sent to `server`. Raises `RequestError`."""
    session = server.session
    with server.answering():
        kernels = _send_code(directory / SHARED_LIBRARY, session)
        machine = VirtualMachine(kernels, session.cpu())
        # A tensor that is an argument is a view to the server, gone after the call; its cache of
        # tensors copies, and makes a tuple that owns what it holds.
        keep = session.get_function("vm.builtin.tensor_cache.update")
        for index, tensor in enumerate(map_parameters(directory, manifest)):
            keep(f"{_WEIGHT}_{index}", _send(tensor.to_tvm(), session), True)
        params = session.get_function("vm.builtin.param_array_from_cache")(
            _WEIGHT, len(manifest.parameters)
        )
        session.get_function("vm.builtin.tensor_cache.clear")()  # a server may outlive its caller
    return RemoteGraph(manifest, server, machine, params)


def _send_library(path: Path, server: RpcServer) -> RemoteGraph:
    """Return the graph in the library at `path`, sent to `server`. Raises `RequestError`."""
    session = server.session
    with server.answering():
        library = _send_code(path, session)
        parcel = VirtualMachine(library, session.cpu())
        signature = Signature.from_json(parcel[GRAPH]())
        machine = LibraryMachine(parcel.module, library, session.cpu())
        return RemoteGraph(signature.describe(path.stem), server, machine, parcel[WEIGHTS]())


def _send_code(path: Path, session: rpc.RPCSession) -> tvm.runtime.Module:
    session.upload(str(path), SHARED_LIBRARY)
    return session.load_module(SHARED_LIBRARY)


def _send(tensor: tvm.runtime.Tensor, session: rpc.RPCSession) -> Any:
    remote = tvm.runtime.empty(tensor.shape, str(tensor.dtype), session.cpu())
    tensor.copyto(remote)
    return remote


def _received(tensor: Any) -> np.ndarray:
    local = tvm.runtime.empty(tensor.shape, str(tensor.dtype))
    tensor.copyto(local)
    return to_numpy(local)
