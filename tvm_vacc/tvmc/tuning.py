"""`tvmc.tune` of the Python API."""

from __future__ import annotations

from pathlib import Path

from tvm_vacc.light_tvm import torch_hidden
from tvm_vacc.tvmc.model import TVMCModel


def tune(
    tvmc_model: TVMCModel,
    target: str = "tvm_vacc -mcpu=native",
    tuning_records: str | Path | None = None,
    trials: int = 64,
    early_stopping: int | None = None,
    tasks: str = "all",
    timeout: float = 30.0,
    parallel: int | None = None,
    dtype: str | None = None,
    prefill: int | None = None,
    context: int | None = None,
) -> str:
    """Look for faster kernels of a model on this machine, and print what was gained.

    Args:
        tvmc_model: of `load`, or made of a Relax module.
        target: what for; this machine must be able to run it.
        tuning_records: the directory of the records, gone on from where it holds some; default: one
            that goes with `tvmc_model`.
        trials: schedules to measure of each task; see ``tvmc tune``, as for the others.

    Returns:
        The directory of the records, for `compile`.

    Raises:
        VaccError: the model cannot be compiled, or the records not be used.
    """
    with torch_hidden():
        from tvm_vacc.tuning.tune import tune as tune_model
    from tvm_vacc.tvmc._tuning import print_gains, show_progress, tell_open

    records = Path(tuning_records or tvmc_model.default_records_path())
    path, model_format = tvmc_model.source()
    tuned = tune_model(
        path,
        records=records,
        target=target,
        tasks=tasks,
        trials=trials,
        early_stopping=early_stopping,
        timeout=timeout,
        workers=parallel,
        progress=show_progress,
        listed=tell_open,
        dtype=dtype,
        prefill=prefill,
        context=context,
        input_shapes=tvmc_model.shape_dict,
        model_format=model_format,
    )
    print_gains(tuned)
    return str(records)
