"""The DAG query_archive looks inside archives without restoring them: `search` is its operator, `results` opens what it found."""
