"""The control plane: composition roots and faces."""
