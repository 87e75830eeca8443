"""What a person does with the runs of a cluster: `kubectl selfalign COMMAND`, and the same as `selfalign cluster COMMAND`."""
