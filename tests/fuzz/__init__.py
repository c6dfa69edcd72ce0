"""Foreign bytes against every parser of foreign bytes: by hypothesis in the suite, by coverage in `make fuzz`."""
