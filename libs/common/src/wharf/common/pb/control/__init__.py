"""Generated from proto/control; the control plane of brain."""
