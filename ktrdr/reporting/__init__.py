"""Reports: one HTML file each, with nothing outside itself and no script."""
