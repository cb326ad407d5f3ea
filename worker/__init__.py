"""One process per accelerator: takes jobs from the queue, steps the batch, delivers pictures."""
