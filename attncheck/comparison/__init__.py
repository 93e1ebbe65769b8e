"""The steps of `compare`, one file each: what was asked for, the target, the measuring; `pipeline` joins them."""
