"""A script as users of TVM 0.18 had it; one import is another.

Run as ``python old_script.py MODEL DIRECTORY TARGET``: it compiles MODEL, times it, saves the
library to DIRECTORY, loads it back, and writes its input and both results to ``result.npz``.
"""

import sys

import numpy as np
import onnx
import tvm

from tvm_vacc import relay  # was: from tvm import relay
from tvm_vacc.relay import graph_executor  # was: from tvm.contrib import graph_executor

model_path, directory, target = sys.argv[1:]

onnx_model = onnx.load(model_path)
input_name = "image"
shape_dict = {input_name: (1, 3, 9, 11)}
mod, params = relay.frontend.from_onnx(onnx_model, shape_dict)

with tvm.transform.PassContext(opt_level=3):
    lib = relay.build(mod, target=target, params=params)

dev = tvm.device("cpu", 0)
module = graph_executor.GraphModule(lib["default"](dev))
data = np.random.default_rng(0).normal(size=shape_dict[input_name]).astype("float32")
module.set_input(input_name, data)
module.run()
first = module.get_output(0, tvm.runtime.empty((1, 5))).numpy()

timing = module.benchmark(dev, number=2, repeat=3)
print(timing)
print(f"mean {timing.mean * 1e3:.3f} ms, std {timing.std * 1e3:.3f} ms of {len(timing.results)}")

path = f"{directory}/compiled.so"
lib.export_library(path)
loaded = tvm.runtime.load_module(path)
module = graph_executor.GraphModule(loaded["default"](dev))
module.set_input(**{input_name: data})
module.run()
second = module.get_output(0).numpy()

np.savez(f"{directory}/result.npz", image=data, first=first, second=second)
