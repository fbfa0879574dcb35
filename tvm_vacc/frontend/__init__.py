"""From a checkpoint or an ONNX file to Relax, with no weight loaded."""
