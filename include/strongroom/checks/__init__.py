"""Whether a deployment is fit: what is needed is really tried, and so is what must be refused.

``result`` is what one check says; ``doors`` is how the checks reach what they try; ``source`` tries the roles of the database, ``stores`` the identities of the archive store and its
replica, ``log`` its transparency log, ``staging`` the scratch space; ``deployment`` runs all of them; ``nagios`` says it in one line.

Nothing here changes a row, and each object that is written is a probe below ``claims/strongroom-check/``, removed at the end.
"""
