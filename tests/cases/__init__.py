"""What people bring: inputs of every kind, written anew and tried by the command line (`make cases`)."""
