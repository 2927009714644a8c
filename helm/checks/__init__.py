"""The checks of `helm/check`, one module for each thing that is looked at."""
