"""One module a stage of the pipeline. Stages meet through files and never import each other."""
