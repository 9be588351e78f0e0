"""The calls of torch in which a drive meets a weight: one file each."""
