"""The apiserver over HTTP: kinds and paths, access, what every call leaves behind, and a small typed client."""
