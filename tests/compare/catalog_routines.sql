-- What the catalogs say of functions and triggers, as psql and drivers ask.
create table t (id int primary key, a text, "B" int);
create function plain(a int, b text default 'x') returns text language plpgsql stable strict as $$
begin
  return b || a;
end $$;
create function unnamed(int, numeric(4, 2)) returns void language sql as $$ select 1 $$;
create function tf() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger tr1 before insert or update of a, "B" on t for each row when (new.a = 'x') execute function tf('it''s', 2);
create trigger tr2 after delete or insert on t for each row execute function tf();
alter table t disable trigger tr2;
select proname, pronargs, pronargdefaults, prorettype::regtype, proargnames, prosrc, provolatile, proisstrict, prokind, proretset, prolang::int > 0 from pg_proc where pronamespace = 'c_catalog_routines'::regnamespace order by 1;
select p.oid::regproc, p.oid::regprocedure, pg_get_function_arguments(p.oid), pg_get_function_identity_arguments(p.oid), pg_get_function_result(p.oid) from pg_proc p where pronamespace = 'c_catalog_routines'::regnamespace order by 2;
select pg_get_functiondef('plain(int, text)'::regprocedure);
select pg_get_functiondef('tf()'::regprocedure);
select tgname, tgtype, tgenabled, tgnargs, tgattr, tgisinternal, encode(tgargs, 'escape') from pg_trigger where tgrelid = 't'::regclass order by 1;
select pg_get_triggerdef(oid) from pg_trigger where tgname = 'tr2';
select pg_get_triggerdef(oid, true) from pg_trigger where tgname = 'tr2';
select relhastriggers from pg_class where relname = 't';
select trigger_name, event_manipulation, event_object_table, action_order, action_statement, action_orientation, action_timing from information_schema.triggers where trigger_schema = 'c_catalog_routines' order by 1, 2;
select routine_name, routine_type, data_type, type_udt_name, routine_body, external_language, is_deterministic, is_null_call, security_type from information_schema.routines where routine_schema = 'c_catalog_routines' order by 1;
comment on function plain(int, text) is 'plain';
comment on function nothing(int) is 'plain';
comment on trigger tr1 on t is 'first';
comment on trigger nothing on t is 'first';
select obj_description('plain(int, text)'::regprocedure, 'pg_proc');
select obj_description(oid, 'pg_trigger') from pg_trigger where tgname = 'tr1';
select to_regproc('plain'), to_regproc('nothing'), to_regprocedure('plain(int,text)'), to_regprocedure('plain(int)');
select 'nothing'::regproc;
select 'plain(int)'::regprocedure;
select pg_function_is_visible('plain(int, text)'::regprocedure);
SELECT n.nspname as "Schema", p.proname as "Name", pg_catalog.pg_get_function_result(p.oid) as "Result data type", pg_catalog.pg_get_function_arguments(p.oid) as "Argument data types", CASE p.prokind WHEN 'a' THEN 'agg' WHEN 'w' THEN 'window' WHEN 'p' THEN 'proc' ELSE 'func' END as "Type" FROM pg_catalog.pg_proc p LEFT JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE pg_catalog.pg_function_is_visible(p.oid) AND n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema' AND n.nspname = 'c_catalog_routines' ORDER BY 1, 2, 4;
SELECT t.tgname, pg_catalog.pg_get_triggerdef(t.oid, true), t.tgenabled, t.tgisinternal, CASE WHEN t.tgparentid != 0 THEN (SELECT u.tgrelid::pg_catalog.regclass FROM pg_catalog.pg_trigger AS u, pg_catalog.pg_partition_ancestors(t.tgrelid) WITH ORDINALITY AS a(relid, depth) WHERE u.tgname = t.tgname AND u.tgrelid = a.relid AND u.tgparentid = 0 ORDER BY a.depth LIMIT 1) END AS parent FROM pg_catalog.pg_trigger t WHERE t.tgrelid = 't'::regclass AND t.tgname = 'tr2' AND (NOT t.tgisinternal OR (t.tgisinternal AND t.tgenabled = 'D') OR EXISTS (SELECT 1 FROM pg_catalog.pg_depend WHERE objid = t.oid AND refclassid = 'pg_catalog.pg_trigger'::pg_catalog.regclass)) ORDER BY 1;
drop table t;
select count(*) from pg_trigger where tgname like 'tr_';
drop function plain, unnamed, tf;
select count(*) from pg_proc where pronamespace = 'c_catalog_routines'::regnamespace;
