-- Freehold's feed, played by PostgreSQL: what the feed workload says of it is the workload's own
-- test. Statement triggers note changes; at commit they get the next position under one lock, so
-- positions follow visibility. The setting freehold.fault plants a fault.
CREATE SCHEMA freehold;
CREATE SEQUENCE freehold.positions;
CREATE TABLE freehold.change (
    xid xid8, ord bigserial, owner text, table_name text, op text, id bigint, was jsonb,
    became jsonb);
CREATE INDEX ON freehold.change (xid);
CREATE TABLE freehold.commits (xid xid8 PRIMARY KEY);
CREATE TABLE freehold.log (
    position pg_lsn, tx xid8, seq int, last_in_tx bool, owner text, table_name text, op text,
    key jsonb, new jsonb, old jsonb, PRIMARY KEY (position, seq));

CREATE FUNCTION freehold.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    whose text := split_part(TG_TABLE_NAME, '_', 1);
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO freehold.change (xid, owner, table_name, op, id, became)
        SELECT pg_current_xact_id(), whose, TG_TABLE_NAME, 'insert', fresh.id, to_jsonb(fresh)
        FROM news AS fresh;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO freehold.change (xid, owner, table_name, op, id, was)
        SELECT pg_current_xact_id(), whose, TG_TABLE_NAME, 'delete', gone.id, to_jsonb(gone)
        FROM olds AS gone;
    ELSE
        INSERT INTO freehold.change (xid, owner, table_name, op, id, was, became)
        SELECT pg_current_xact_id(), whose, TG_TABLE_NAME, 'update', fresh.id, to_jsonb(gone),
               to_jsonb(fresh)
        FROM news AS fresh JOIN olds AS gone USING (id);
    END IF;
    INSERT INTO freehold.commits VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE FUNCTION freehold.seal() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    fault text := coalesce(current_setting('freehold.fault', true), '');
    place pg_lsn;
BEGIN
    IF fault = 'early-position' THEN
        place := '0/0'::pg_lsn + nextval('freehold.positions');
        PERFORM pg_sleep(0.02 * random());
    ELSE
        PERFORM pg_advisory_xact_lock(4711);
        place := '0/0'::pg_lsn + nextval('freehold.positions');
    END IF;
    INSERT INTO freehold.log
    SELECT place, NEW.xid, row_number() OVER (ORDER BY net.ord) - 1, false, net.owner,
           net.table_name, net.op, jsonb_build_object('id', net.id),
           CASE WHEN net.op <> 'delete' THEN net.became END, net.was
    FROM (
        SELECT min(ord) AS ord, min(owner) AS owner, table_name, id,
               (array_agg(was ORDER BY ord))[1] AS was,
               (array_agg(became ORDER BY ord DESC))[1] AS became,
               CASE WHEN (array_agg(op ORDER BY ord))[1] = 'insert' THEN 'insert'
                    WHEN (array_agg(op ORDER BY ord DESC))[1] = 'delete' THEN 'delete'
                    ELSE 'update' END AS op
        FROM freehold.change WHERE xid = NEW.xid GROUP BY table_name, id
        HAVING NOT ((array_agg(op ORDER BY ord))[1] = 'insert'
                    AND (array_agg(op ORDER BY ord DESC))[1] = 'delete')
    ) AS net
    WHERE NOT (fault = 'drop-deletes' AND net.op = 'delete')
      AND NOT (fault = 'torn' AND net.id % 97 = 0);
    UPDATE freehold.log SET last_in_tx = true
    WHERE position = place
      AND seq = (SELECT max(seq) FROM freehold.log WHERE position = place);
    DELETE FROM freehold.change WHERE xid = NEW.xid;
    DELETE FROM freehold.commits WHERE xid = NEW.xid;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER seal AFTER INSERT ON freehold.commits
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION freehold.seal();

CREATE VIEW freehold.feed AS SELECT * FROM freehold.log;

CREATE FUNCTION freehold.changes(
    after pg_lsn DEFAULT NULL, tables text[] DEFAULT NULL, wait text DEFAULT NULL,
    max_rows int DEFAULT NULL)
RETURNS SETOF freehold.log LANGUAGE sql STABLE AS $$
    WITH wanted AS (
        SELECT * FROM freehold.log WHERE log.position > coalesce(after, '0/0')
        ORDER BY log.position FETCH FIRST max_rows ROWS WITH TIES)
    SELECT * FROM wanted ORDER BY position, seq
$$;

CREATE FUNCTION freehold.snapshot_position() RETURNS pg_lsn LANGUAGE sql STABLE AS
    'SELECT coalesce(max(position), ''0/0'') FROM freehold.log';

GRANT USAGE ON SCHEMA freehold TO PUBLIC;
GRANT SELECT ON freehold.log, freehold.feed TO PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC;
