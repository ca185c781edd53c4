"""From an ONNX model to a circuit that anyone can rebuild: the only package that runs ezkl, in a confined child."""
