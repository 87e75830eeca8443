"""Tables in files: Parquet, JSONL, JSON, CSV and text, packed or not. Named columns only, as text, character by character."""
