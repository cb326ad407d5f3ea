"""The worker, one process per accelerator: claims jobs, steps the batch, delivers images."""
