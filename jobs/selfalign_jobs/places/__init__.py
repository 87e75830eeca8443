"""The places that a run names, and what lies there: the store, buckets, the hub, tables, models."""
