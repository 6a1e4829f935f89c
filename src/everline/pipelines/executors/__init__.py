"""Who runs the steps of a pipeline: this process, a pool of processes, or a Ray cluster."""
