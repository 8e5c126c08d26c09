"""A pretend company on loopback that speaks its providers' real protocols."""
