"""A model on its way to being compiled: `TVMCModel` of the Python API."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tvm_vacc.errors import ConfigError

if TYPE_CHECKING:
    import tvm

_MODULE, _PARAMS = "model.json", "model.params"
_SAVED = "give a file that TVMCModel.save has written"


class TVMCModel:
    """A model: a file in any format that ``tvmc compile`` reads, or a Relax module.

    Args:
        mod: a Relax module.
        params: its weights by parameter name.
        model_path: a file that `save` has written.

    Attributes:
        path: of the file that it was loaded from; None for a module.
        model_format: as `tvm_vacc.model_format` names it; None: as the file looks.
        shape_dict: shapes of inputs that were given at load.

    Raises:
        ConfigError: neither a module with its params nor a file is given.
    """

    def __init__(
        self,
        mod: tvm.ir.IRModule | None = None,
        params: Mapping[str, Any] | None = None,
        model_path: str | None = None,
    ) -> None:
        if (mod is None or params is None) and model_path is None:
            raise ConfigError(
                "TVMCModel takes a module and its params, or the path of a saved model",
                "load the files of models by tvmc.load",
            )
        self._folder = tempfile.TemporaryDirectory(prefix="tvmc-")
        self.path: Path | None = None
        self.model_format: str | None = None
        self.shape_dict: dict[str, Sequence[int]] | None = None
        self._mod, self._params = mod, dict(params or {})
        if model_path is not None:
            self.load(model_path)

    @classmethod
    def of_file(
        cls,
        path: str | Path,
        model_format: str | None,
        shape_dict: Mapping[str, Sequence[int]] | None,
    ) -> TVMCModel:
        """Return the model in a file, which is read when it is compiled or looked at."""
        model = cls.__new__(cls)
        model._folder = tempfile.TemporaryDirectory(prefix="tvmc-")
        model.path, model.model_format = Path(path), model_format
        model.shape_dict = dict(shape_dict) if shape_dict else None
        model._mod, model._params = None, {}
        return model

    @property
    def mod(self) -> tvm.ir.IRModule:
        """The model in Relax.

        Raises:
            ConfigError: it is a checkpoint or a config, whose graph is made by compiling.
        """
        if self._mod is None:
            self._mod, self._params = self._read()
        return self._mod

    @property
    def params(self) -> dict[str, Any]:
        """The weights by parameter name. Errors: `mod`."""
        if self._mod is None:
            self._mod, self._params = self._read()
        return self._params

    def save(self, model_path: str | Path) -> None:
        """Write module and params to a tar file, as TVM's former TVMCModel did."""
        import tvm

        folder = Path(self._folder.name)
        (folder / _MODULE).write_text(tvm.ir.save_json(self.mod), "utf-8")
        (folder / _PARAMS).write_bytes(tvm.runtime.save_param_dict(self._tensors()))
        with tarfile.open(model_path, "w") as tar:
            for name in (_MODULE, _PARAMS):
                tar.add(folder / name, name)

    def load(self, model_path: str | Path) -> None:
        """Read what `save` has written.

        Raises:
            ConfigError: it is something else.
        """
        import tvm

        try:
            with tarfile.open(model_path, "r:") as tar:
                files = {member.name: member for member in tar if member.isreg()}
                module, params = (
                    tar.extractfile(files[name]).read()  # type: ignore[union-attr]
                    for name in (_MODULE, _PARAMS)
                )
            self._mod = tvm.ir.load_json(module.decode())
            self._params = dict(tvm.runtime.load_param_dict(bytearray(params)).items())
        except Exception as error:  # of TVM's C++ parts, too
            raise ConfigError(f"{model_path}: is no saved TVMCModel", _SAVED) from error

    def summary(self, file: TextIO | None = None) -> None:
        """Print the module."""
        print(self.mod.script(), file=file)

    def default_package_path(self) -> str:
        """Return where `tvmc.compile` puts a package that is given no path; it goes with this."""
        return str(Path(self._folder.name) / "package")

    def default_records_path(self) -> str:
        """Return where `tvmc.tune` puts records that are given no path; they go with this."""
        return str(Path(self._folder.name) / "records")

    def source(self) -> tuple[Path, str | None]:
        """Return the file to be compiled, and its format; a module is written to one."""
        if self.path is not None:
            return self.path, self.model_format
        import tvm
        from tvm import relax

        bound = relax.transform.BindParams("main", self._tensors())(self.mod)
        path = Path(self._folder.name) / "module.json"
        path.write_text(tvm.ir.save_json(bound), "utf-8")
        return path, "relax"

    def _tensors(self) -> dict[str, Any]:
        import tvm

        return {
            name: value if isinstance(value, tvm.runtime.Tensor) else tvm.runtime.tensor(value)
            for name, value in self.params.items()
        }

    def _read(self) -> tuple[tvm.ir.IRModule, dict[str, Any]]:
        from tvm_vacc.model_format import guess_format

        assert self.path is not None
        found = self.model_format or guess_format(self.path)
        if found == "relax":
            from tvm_vacc.steps.relax_module import read_relax

            return read_relax(self.path), {}
        if found not in ("onnx", "pytorch"):
            raise ConfigError(
                f"{self.path}: its graph is made when it is compiled",
                'look at it by tvmc.compile(.., print_ir_before=["canonicalize"])',
            )
        path = self.path
        if found == "pytorch":
            from tvm_vacc.progress import Progress
            from tvm_vacc.steps.torch_program import make_torch_graph

            def silent(_progress: Progress) -> None:
                pass

            path = Path(self._folder.name) / "model.onnx"
            make_torch_graph(self.path, path, silent)
        from tvm_vacc.relay.frontend import from_onnx

        return from_onnx(path, shape=self.shape_dict, freeze_params=False)
