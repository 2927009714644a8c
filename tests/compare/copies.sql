-- COPY in and out with its options.
create table t (id int, name text, n numeric(6, 2), d date, b bool, j jsonb, a int[]);
copy t from stdin;
1	one	1.5	2024-01-01	t	{"a": 1}	{1,2}
2	two\ttab	\N	\N	f	\N	\N
3	back\\slash\nnewline	-1	2024-02-29	t	[1]	{}
\.
select * from t order by id;
copy t to stdout;
copy (select id, name from t order by id desc) to stdout;
copy t (id, name) to stdout with (format csv, header);
copy t to stdout (format csv, delimiter ';', null 'NULL', quote '''', force_quote (name));
copy t (id, name) to stdout csv header quote '"' escape '\' force quote *;
copy t (id, name) to stdout with delimiter '|' null 'nil';
copy t (id) from stdin with (format csv, header true);
id
10
11
\.
copy t (id, name, n) from stdin csv;
20,"quoted ""name""",1.25
21,,2
22,"",3
\.
select id, name, name is null as missing, n from t where id between 20 and 22 order by id;
copy t (id, name) from stdin with (format csv, null 'NULL', force_null (name), force_not_null (name));
23,"NULL"
\.
copy t (id, name) from stdin with (format csv, delimiter '|', quote '''', escape '\');
24|'it\'s|x'
25|plain
\.
select id, name from t where id in (23, 24, 25) order by id;
copy t (name, id) from stdin with (delimiter ',', null '');
x,30
,31
\.
select id, name from t where id in (30, 31) order by id;
copy t (id) from stdin;
nonsense
\.
copy t (id, name) from stdin;
40
\.
copy t (id) from stdin;
41	too	many
\.
copy t (id, d) from stdin;
42	2024-13-01
\.
copy t (id, n) from stdin;
43	12345.678
\.
copy t (id) from stdin csv;
"unterminated
\.
select count(*) from t where id >= 40;
copy t (id) from stdin where id > 50;
49
51
\.
select id from t where id > 45;
copy t (nothing) from stdin;
\.
copy t (id, id) from stdin;
\.
copy nothing from stdin;
\.
copy nothing to stdout;
copy t to stdout (format nothing);
copy t to stdout (nothing true);
copy t to stdout (delimiter 'ab');
copy t to stdout (delimiter E'\n');
copy t to stdout (quote '"');
copy t to stdout (format csv, quote 'ab');
copy t to stdout (format csv, delimiter '"');
copy t to stdout (null E'a\nb');
copy t from stdin (force_quote (id));
\.
copy t to stdout (format csv, force_not_null (id));
copy t to stdout (encoding 'nothing');
copy t to stdout (encoding 'UTF8', format text);
copy t to '/tmp/nothing';
copy t from '/tmp/nothing';
copy (select 1 as one, null as two, 'x' as three) to stdout csv header;
copy (values (1, 'a'), (2, 'b')) to stdout (format csv);
copy (insert into t (id) values (60), (61) returning id) to stdout;
copy (update t set name = 'copied' where id = 60 returning id, name) to stdout;
copy (delete from t where id = 60) to stdout;
copy (select nothing) to stdout;
copy (create table x (a int)) to stdout;
create table k (id int primary key, v int check (v > 0), g int generated always as (v * 2) stored, s serial, i int generated always as identity, x text default 'dflt');
copy k (id, v) from stdin;
1	5
2	6
\.
select * from k order by id;
copy k (id, v) from stdin;
3	7
1	8
\.
copy k (id, v) from stdin;
4	-1
\.
copy k (id, g) from stdin;
5	5
\.
copy k (id, i) from stdin;
5	77
\.
select id, v, i from k order by id;
copy k to stdout;
copy k (id, g) to stdout;
create table p (id int primary key);
create table c (p int references p);
copy c from stdin;
1
\.
copy p from stdin;
1
\.
copy c from stdin;
1
1
\.
select * from c;
begin;
copy p from stdin;
2
\.
select count(*) from p;
rollback;
select count(*) from p;
create view v as select id from p;
copy v to stdout;
copy v from stdin;
\.
copy t (id, name) to stdout with (format csv, header match);
copy t (id, name) from stdin with (format csv, header match);
id,name
70,seventy
\.
copy t (id, name) from stdin with (format csv, header match);
id,other
71,x
\.
copy t (id, name) from stdin (freeze off);
72	x
\.
create table types (a "char", b char(5), c varchar(3), d bytea, e timestamp, f timestamptz, g interval, h uuid, i float8, k text[], l name, m time, n pg_lsn, o json);
copy types from stdin;
x	ab	abc	\\x0102	2024-01-01 10:00:00	2024-01-01 10:00:00+02	1 day 02:00:00	11111111-1111-1111-1111-111111111111	1.5e10	{a,"b c",NULL}	nm	10:00:00	1/ABC	{"x":  1}
\.
select * from types;
copy types to stdout;
copy types to stdout csv;
copy types (c) from stdin;
toolong
\.
copy types (d) from stdin;
\\xzz
\.
copy types (b) from stdin;
\141\x62\v\f\b
\.
select c, b from types where c is null;
create table sp (a text);
copy sp from stdin (format csv);
 spaced 
"multi
line"
\.
select a || '|' from sp order by 1;
copy sp to stdout (format csv);
copy sp (a) to stdout;
copy sp from stdin (format csv, null '\N');
\N
"\N"
\.
select count(*) from sp where a is null;
copy (select * from sp where a is null) to stdout (format csv, null 'none');
copy (select ''::text as a, null::text as b) to stdout csv;
copy (select E'a,b' as x, E'q"q' as y, E'l\nl' as z) to stdout csv;
copy (select 1) to stdin;
copy (select 1, 2) (a) to stdout;
