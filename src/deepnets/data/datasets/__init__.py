"""The data sets that `download.source` may name: a file each, which holds DATASET."""
