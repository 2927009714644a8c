-- What drivers lean on: strings over lines, rows of functions, prepared statements that outlive
-- their tables, IF EXISTS.
select 'two'
 'parts' as x;
select 'a' -- a comment between
  'b'

  'c' as x;
select E'a\t'
 '\n''x' as x;
select 'a' 'b';
select 'a' /* a block is no line's end */ 'b';
select U&'\0061'
 '\0062' as x;
select (x).n, (x).x from (select information_schema._pg_expandarray(array[5,6]) as x) g;
with g as (select information_schema._pg_expandarray(array['a','b']) as x) select (g.x).n, (x).x from g;
select (information_schema._pg_expandarray(array[5,6])).n;
select (information_schema._pg_expandarray(array[5,6])).nope;
select _pg_expandarray(array[1]);
select pg_catalog.nope(1);
select information_schema.nope(1);
create table shape (a int primary key, b text);
insert into shape values (1, 'x');
prepare all_columns as select * from shape;
prepare one_column as select b from shape where a = $1;
execute all_columns;
alter table shape add column c int;
execute all_columns;
execute one_column(1);
alter table shape alter column b type varchar(7);
execute one_column(1);
deallocate all_columns;
prepare all_columns as select * from shape;
execute all_columns;
drop table shape;
execute all_columns;
drop table if exists shape;
drop schema if exists nope;
drop index if exists nope;
drop view if exists nope;
drop role if exists nope;
alter table if exists nope add column x int;
select count(*) from pg_get_keywords();
create role plain login;
set role plain;
select count(*) from pg_authid;
select count(*) from pg_shadow;
select count(subname) from pg_subscription;
select count(subconninfo) from pg_subscription;
select count(*) from information_schema.transforms;
select has_table_privilege('pg_authid', 'select'), has_table_privilege('pg_class', 'select'), has_table_privilege('pg_class', 'insert');
select has_column_privilege('pg_subscription', 'subconninfo', 'select'), has_column_privilege('pg_subscription', 'subname', 'select');
reset role;
select relname, relacl from pg_class where relname in ('pg_class', 'pg_authid', 'pg_subscription') order by 1;
drop role plain;
