"""Rows go into the archived table or into another one, with the rights and sequences that this needs."""

from __future__ import annotations

import pytest
from psycopg.conninfo import make_conninfo

from strongroom.errors import RestoreError, SourceAccessError
from tests.support.chain import grants_of
from tests.support.database import ask, digest, execute
from tests.support.restoring import plan, restore


class TestTarget:
    def test_a_table_of_its_own_is_created_from_the_manifest(self, chain):
        before = ask(
            chain.conninfo,
            "SELECT id, at, who, cost, tax, badge FROM audit WHERE at >= '2026-05-01' AND at < '2026-06-01' ORDER BY 1",
        )
        chain.run()
        execute(chain.conninfo, "CREATE SCHEMA back")

        with pytest.raises(RestoreError, match=r"there is no table back\.May"):
            plan(chain, target="back.May")
        report = restore(chain, target="back.May", create_target=True)
        restore(chain, "restore-2", target="back.May", create_target=True)

        assert report.inserted == 744
        assert ask(chain.conninfo, 'SELECT * FROM back."May" ORDER BY 1') == before
        described = ask(
            chain.conninfo,
            "SELECT attname, attnotnull, attidentity::text FROM pg_attribute WHERE attrelid = 'back.\"May\"'::regclass AND attnum > 0",
        )
        assert described[:3] == [("id", True, "d"), ("at", False, ""), ("who", False, "")]

    def test_the_sequence_of_an_identity_column_is_moved_past_what_came_back(self, archived):
        execute(archived.conninfo, "CREATE SCHEMA back")

        report = restore(archived, target="back.audit", create_target=True)

        execute(archived.conninfo, "INSERT INTO back.audit (at) VALUES ('2026-08-01')")
        assert report.moved_sequences == ("back.audit_id_seq",)
        assert ask(archived.conninfo, "SELECT max(id) FROM back.audit") == [(746,)]
        assert restore(archived, "restore-2").moved_sequences == ()

    def test_a_role_without_the_rights_is_told_which_it_lacks(self, archived):
        execute(
            archived.conninfo,
            "CREATE ROLE restorer_test LOGIN; GRANT USAGE ON SCHEMA public TO restorer_test; GRANT SELECT ON audit TO restorer_test",
        )
        superuser = archived.conninfo
        archived.conninfo = make_conninfo(superuser, options="-c role=restorer_test")
        try:
            with pytest.raises(
                SourceAccessError,
                match=r"restorer_test lacks .* no INSERT on public\.audit, no SELECT on sequence public\.audit_id_seq",
            ) as refused:
                plan(archived)
            assert grants_of(refused.value) == [
                "GRANT INSERT ON public.audit TO restorer_test;",
                "GRANT SELECT, UPDATE ON SEQUENCE public.audit_id_seq TO restorer_test;",
            ]
            execute(superuser, "".join(grants_of(refused.value)))
            execute(
                superuser,
                "REVOKE UPDATE ON SEQUENCE audit_id_seq FROM restorer_test; ALTER TABLE audit ALTER id RESTART",
            )
            with pytest.raises(
                SourceAccessError, match=r"restorer_test may not move the sequence .* past 745"
            ) as refused:
                restore(archived)
            execute(superuser, "".join(grants_of(refused.value)))
            assert restore(archived).moved_sequences == ("public.audit_id_seq",)
            assert digest(superuser)[0] == 800
        finally:
            execute(superuser, "DROP OWNED BY restorer_test; DROP ROLE restorer_test")
