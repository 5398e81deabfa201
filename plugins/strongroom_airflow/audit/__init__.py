"""The audit report: for the command and for the task of its DAG."""
