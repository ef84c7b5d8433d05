"""Fast twins of the hot ops: one table of ``ops.kernels.Kernels`` for each kind of device."""
