"""debLoRA: cluster, calibrate, train a new adapter on the moved features."""
