"""What is where: the state of each table and calendar partition, and where each row of a partition went.

`facts` reads a store, `source` asks a database, `states` names the states, `chart` gives each partition its state, `history` tells one
partition's story, and `commands` says how a stranger checks an archive. Nothing here changes anything.
"""
