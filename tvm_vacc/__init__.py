"""tvm_vacc: GLM-4 checkpoints and ONNX models, compiled by Apache TVM."""

__version__ = "0.1.0"
