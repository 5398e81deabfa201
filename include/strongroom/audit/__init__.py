"""What an auditor is handed: the report of a period, from a store's transparency log, and certificates of destruction as pages.

- ``report``    the acts of the period, table by table, the gaps, and the log's signed head
- ``cases``     requests of persons that were open in the period: what became of each, and whether it was in time
- ``controls``  requirements of laws and standards, each with the entries that show how it was met and what is not covered
- ``page``      the report as HTML that prints well
- ``certificate``  one certificate of destruction, with its place in the log, as HTML that prints well
- ``oscal``     the same findings as NIST's OSCAL assessment results
- ``keep``      the three forms of a report, kept in the stores and entered in their logs

It reads logs and settings. What it says rests on the log, which `tools/verify_evidence.py` checks without any of this.
"""
