"""The fuzz targets, for a few seconds each."""
