"""Rows as bytes: the formats of archives, and the texts in which PostgreSQL writes and reads values.

- ``row_texts``    canonical texts of rows, split into columns, and back; ``copy_text`` is the text format of COPY
- ``blocks``       rows cut into blocks, and the digest of each
- ``line_writer``, ``line_reader``  columns of text to JSON lines, and back
- ``parquet``      columns of text to parquet, and back
- ``part_writer``  what extract_to_staging writes of a part: rows in either format, and the list of its blocks
- ``codecs``, ``reading_back``  compression, and the sums of a part that is read back
- ``persons``      keyed digests of what identifies a person, and filters that tell in which parts such rows may be
- ``type_names``   which texts may be used as the name of a type
- ``arrow``        pyarrow, imported once, without pandas

Nothing here opens a connection. Arrow takes 46 MB, so a module that imports it is imported only where it is needed.
"""
