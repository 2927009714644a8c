-- Functions and DO blocks in PL/pgSQL.
create function one() returns int language plpgsql as $$ begin return 1; end $$;
select one();
select one() + one(), pg_catalog.abs(one());
create function add(a int, b int default 10) returns int language plpgsql as $$
declare
  c int := a + b;
begin
  return c;
end;
$$;
select add(1, 2), add(5), add(b => 1, a => 2), add(a => 7);
select add();
select add('x');
select add(1, 2, 3);
select add(c => 1);
create function fact(n numeric) returns numeric language plpgsql as $$
begin
  if n <= 1 then
    return 1;
  elsif n > 100 then
    raise exception 'too large: %', n using hint = 'Less.', errcode = '22003';
  else
    return n * fact(n - 1);
  end if;
end $$;
select fact(20);
select fact(101);
create function grade(n int) returns text language plpgsql as $$
begin
  case n
    when 1, 2 then return 'good';
    when 3 then return 'fair';
    else return 'poor';
  end case;
end $$;
select grade(1), grade(2), grade(3), grade(4), grade(null);
create function grade2(n int) returns text language plpgsql as $$
begin
  case
    when n < 2 then return 'low';
    when n < 5 then return 'mid';
  end case;
end $$;
select grade2(1), grade2(4);
select grade2(9);
create function sums(n int) returns int language plpgsql as $$
declare s int := 0;
begin
  for i in 1..n loop
    continue when i % 2 = 0;
    exit when i > 9;
    s := s + i;
  end loop;
  return s;
end $$;
select sums(5), sums(20), sums(0);
create function downs() returns text language plpgsql as $$
declare s text := '';
begin
  for i in reverse 10..1 by 3 loop
    s := s || i || ' ';
  end loop;
  return trim(s);
end $$;
select downs();
create function whiles(n int) returns text language plpgsql as $$
declare i int := 0; r text := '';
begin
  while i < n loop
    i := i + 1;
    r := r || i::text;
  end loop;
  loop
    i := i - 1;
    exit when i < 0;
    r := r || '-' || i;
  end loop;
  return r;
end $$;
select whiles(3);
create function nested() returns text language plpgsql as $$
declare r text := '';
begin
  <<outer>>
  for i in 1..3 loop
    <<inner>>
    for j in 1..3 loop
      continue outer when j = 2 and i = 1;
      exit outer when i = 3;
      r := r || i || j || ' ';
    end loop inner;
  end loop outer;
  <<blk>>
  begin
    r := r || 'x';
    exit blk;
    r := r || 'y';
  end blk;
  return r;
end $$;
select nested();
create table t (id int primary key, name text not null, n int);
insert into t values (1, 'a', 10), (2, 'b', 20), (3, 'c', null);
create function look(k int) returns text language plpgsql as $$
declare
  v_name text;
  v_n t.n%type;
begin
  select name, n into v_name, v_n from t where id = k;
  if not found then
    return 'none';
  end if;
  return v_name || coalesce(v_n, -1);
end $$;
select look(1), look(3), look(9);
create function strict_look(k int) returns text language plpgsql as $$
declare v text;
begin
  select name into strict v from t where id >= k;
  return v;
end $$;
select strict_look(3);
select strict_look(1);
select strict_look(9);
create function rec(k int) returns text language plpgsql as $$
declare r record; q t%rowtype; p t;
begin
  select * into r from t where id = k;
  select * into q from t where id = k;
  p := q;
  p.name := p.name || '!';
  return r.name || ':' || q.n || ':' || p.name || ':' || (r.id + p.id);
end $$;
select rec(2);
select rec(7);
create function unassigned() returns text language plpgsql as $$
declare r record;
begin
  return r.x;
end $$;
select unassigned();
create function nofield() returns text language plpgsql as $$
declare r record;
begin
  select 1 as a into r;
  return r.b;
end $$;
select nofield();
create function looped() returns text language plpgsql as $$
declare r record; s text := ''; a int; b text;
begin
  for r in select id, name from t order by id loop
    s := s || r.id || r.name || ' ';
  end loop;
  for a, b in select id, name from t order by id desc loop
    s := s || a || b || ' ';
  end loop;
  for r in select * from t where false loop
    s := s || 'never';
  end loop;
  return s || found;
end $$;
select looped();
create function perf() returns text language plpgsql as $$
declare n int;
begin
  perform 1 from t where id = 1;
  if found then
    perform * from t;
    get diagnostics n = row_count;
    return 'yes ' || n;
  end if;
  return 'no';
end $$;
select perf();
create function writes(k int) returns int language plpgsql as $$
declare c int; got int;
begin
  insert into t values (k, 'w', 1) returning id into got;
  update t set n = coalesce(n, 0) + 1 where id < 4;
  get diagnostics c = row_count;
  delete from t where id = k;
  return c * 100 + got;
end $$;
select writes(50);
select * from t order by id;
create function caught(k int) returns text language plpgsql as $$
declare v_state text; v_msg text; v_detail text; v_con text; v_table text;
begin
  begin
    insert into t values (40, 'kept?', 0);
    insert into t values (k, 'dup', 0);
  exception
    when unique_violation then
      get stacked diagnostics v_state = returned_sqlstate, v_msg = message_text,
        v_detail = pg_exception_detail, v_con = constraint_name, v_table = table_name;
      return sqlstate || '|' || v_state || '|' || v_msg || '|' || v_detail || '|' || v_con || '|' || v_table;
    when not_null_violation or check_violation then
      return 'null';
    when others then
      return 'other ' || sqlerrm;
  end;
  return 'fine';
end $$;
select caught(1);
select caught(41);
select id from t order by id;
delete from t where id > 3;
create function rethrow() returns void language plpgsql as $$
begin
  begin
    raise unique_violation using message = 'mine', detail = 'd', hint = 'h';
  exception when others then
    raise;
  end;
end $$;
select rethrow();
create function div(a int, b int) returns int language plpgsql as $$
begin
  return a / b;
exception
  when division_by_zero then
    return -1;
end $$;
select div(4, 2), div(1, 0);
create function class_caught() returns text language plpgsql as $$
begin
  perform 1 / 0;
exception
  when data_exception then
    return 'class ' || sqlstate;
end $$;
select class_caught();
create function state_caught() returns text language plpgsql as $$
begin
  raise exception 'x' using errcode = 'AB123';
exception
  when sqlstate 'AB123' then
    return sqlerrm;
end $$;
select state_caught();
do $$ begin raise exception 'plain'; end $$;
do $$ begin raise exception 'with % and %%', 5; end $$;
do $$ begin raise sqlstate '22012'; end $$;
do $$ begin raise division_by_zero; end $$;
do $$ begin raise division_by_zero using message = 'no'; end $$;
do $$ begin raise using message = 'm', errcode = 'unique_violation', detail = 'd'; end $$;
do $$ begin raise exception using errcode = '23505'; end $$;
do $$ begin raise exception 'a', 1; end $$;
do $$ begin raise exception 'a % %', 1; end $$;
do $$ begin raise; end $$;
do $$ begin raise nothing_known; end $$;
do $$ begin raise exception 'x' using message = 'y'; end $$;
do $$ begin raise exception 'x' using foo = 'y'; end $$;
do $$ begin raise notice 'n'; raise warning 'w'; raise info 'i'; raise log 'l'; raise debug 'd'; end $$;
do $$ begin assert 1 = 1; assert 1 = 2, 'it is not'; end $$;
do $$ begin assert null; end $$;
do $$ declare x int := 'a'; begin end $$;
do $$ declare x int not null := null; begin end $$;
do $$ declare x int not null; begin end $$;
do $$ declare x constant int := 1; begin x := 2; end $$;
do $$ declare x int := 1; x int; begin end $$;
do $$ begin x := 1; end $$;
do $$ begin select 1; end $$;
do $$ begin perform 1; end $$;
do $$ declare x int; begin select 1, 2 into x; raise notice '%', x; end $$;
do $$ declare id int := 1; begin perform 1 from t where id = id; end $$;
do $$ declare id int := 1; begin perform 1 from t where t.id = 1; end $$;
do $$
#variable_conflict use_column
declare id int := 1; begin perform 1 from t where id = id; end $$;
do $$ begin if 1 then null; end if; end $$;
do $$ begin if 'x' then null; end if; end $$;
do $$ begin exit; end $$;
do $$ begin continue; end $$;
do $$ begin loop exit foo; end loop; end $$;
do $$ begin return 1; end $$;
do $$ begin return; end $$;
do $$ begin foo; end $$;
do $$ begin selct 1; end $$;
do $$ begin perform nothing(); end $$;
do $$ begin perform x from t; end $$;
do $$ begin insert into t values (1, null); end $$;
do $$ begin if true then end $$;
do $$ begin for i in 1..null loop null; end loop; end $$;
do $$ begin for i in 1..3 by 0 loop null; end loop; end $$;
do $$ begin for i in select 1 loop null; end loop; end $$;
do $$ declare a int[] := array[1, 2]; s int := 0; x int; begin foreach x in array a loop s := s + x; end loop; a[4] := 9; raise exception '% % %', s, a, a[4]; end $$;
do $$ declare x int; begin foreach x in array 5 loop null; end loop; end $$;
do $$ declare x int; begin foreach x in array null::int[] loop null; end loop; end $$;
do $$ declare s text; begin execute 'select name from t where id = $1' into s using 2; raise exception '%', s; end $$;
do $$ begin execute null; end $$;
do $$ begin execute 'select 1 from'; end $$;
do $$ begin execute format('insert into t values (%s, %L, 1)', 60, 'dyn'); end $$;
select * from t where id = 60;
do $$ declare r record; n int := 0; begin for r in execute 'select id from t where id > $1' using 1 loop n := n + r.id; end loop; raise exception '%', n; end $$;
delete from t where id = 60;
do $$ declare x varchar(3) := 'abcd'; begin null; end $$;
do $$ declare x numeric(4, 1); begin x := 12.345; raise exception '%', x; end $$;
do $$ declare x text := 12; y int := '13'; z bool := 'yes'; begin raise exception '% % %', x, y, z; end $$;
do $$ declare x int := 1.6; begin raise exception '%', x; end $$;
do $$ declare x date := '2024-02-30'; begin null; end $$;
do $$ declare a int := 1; begin declare a int := 2; begin raise notice '%', a; end; raise exception '%', a; end $$;
do $$ <<l>> declare a int := 1; begin declare a int := 2; begin raise exception '% %', a, l.a; end; end $$;
create function qualified(a int) returns int language plpgsql as $$ begin return qualified.a + $1; end $$;
select qualified(4);
create function noreturn() returns int language plpgsql as $$ begin null; end $$;
select noreturn();
create function nothing() returns void language plpgsql as $$ begin null; end $$;
select nothing();
create function badret() returns int language plpgsql as $$ begin return 'x'; end $$;
select badret();
create function noexpr() returns int language plpgsql as $$ begin return; end $$;
create function voidret() returns void language plpgsql as $$ begin return 1; end $$;
create function manyrows() returns int language plpgsql as $$ begin return (select id from t); end $$;
select manyrows();
create function assigned() returns int language plpgsql as $$ declare x int; begin x := id from t where id = 2; return x; end $$;
select assigned();
create function strictly(a int, b int) returns int language plpgsql strict as $$ begin return coalesce(a, 0) + coalesce(b, 0); end $$;
select strictly(1, null), strictly(1, 2);
create function over(a int) returns text language plpgsql as $$ begin return 'int'; end $$;
create function over(a text) returns text language plpgsql as $$ begin return 'text'; end $$;
create function over(a numeric) returns text language plpgsql as $$ begin return 'numeric'; end $$;
select over(1), over('x'::text), over(1.5), over('y'), over(1::smallint), over(1::bigint);
create function one() returns int language plpgsql as $$ begin return 2; end $$;
create or replace function one() returns int language plpgsql as $$ begin return 2; end $$;
select one();
create or replace function one() returns text language plpgsql as $$ begin return 2; end $$;
create or replace function add(x int, b int default 10) returns int language plpgsql as $$ begin return 2; end $$;
create or replace function add(a int, b int) returns int language plpgsql as $$ begin return 2; end $$;
create function bad(a int, a int) returns int language plpgsql as $$ begin return 2; end $$;
create function bad(a int default 1, b int) returns int language plpgsql as $$ begin return 2; end $$;
create function bad() returns int as $$ begin return 2; end $$;
create function bad() returns int language plpgsql;
create function bad() returns int language nonsense as $$ begin return 2; end $$;
create function bad() returns nonsense language plpgsql as $$ begin return 2; end $$;
create function bad(nonsense) returns int language plpgsql as $$ begin return 2; end $$;
create function bad() returns int language plpgsql as $$ begin return 2; end $$ immutable stable;
create function bad() returns int language plpgsql as $$ begin retrn 2; end $$;
create function bad() returns int language plpgsql as $$ begin return 2 $$;
create function bad() returns int language plpgsql as $$ begin if true return 2; end if; end $$;
create function bad() returns int language plpgsql as $$ begin return (1; end $$;
create function bad() returns int language plpgsql as $$ declare x nonsense; begin return 2; end $$;
create function bad() returns int language plpgsql as $$ begin return next 2; end $$;
create function s1(a int, b int) returns int language sql as $$ select a + b $$;
create function s2(int) returns text language sql as $$ select name from t where id = $1 order by id $$;
create function s3(k int) returns void language sql as $$ delete from t where id = k; insert into t values (k, 's3', 3) $$;
create function s4() returns bigint language sql as $$ select count(*) from t; select max(id) from t $$;
create function s5() returns int language sql as $$ delete from t where id = 77 $$;
select s1(1, 2), s2(1), s2(99), s3(70), s4();
select * from t order by id;
delete from t where id = 70;
select id, add(id, n), grade(id) from t where add(id, 1) > 2 order by add(id, 1) desc;
select sum(add(id, 1)), max(grade(id)) from t;
select * from add(3, 4);
select * from add(3, 4) as x;
select x.y from add(3, 4) as x (y);
update t set n = add(id, 100) where grade(id) = 'good';
insert into t select 80 + one(), 'x', add(1, 1);
select * from t order by id;
delete from t where id > 3;
create function reads() returns int language plpgsql stable as $$ begin delete from t; return 1; end $$;
select reads();
create function counts() returns bigint language plpgsql stable as $$ begin return (select count(*) from t); end $$;
select counts();
create function creates() returns void language plpgsql as $$
begin
  create table made (a int primary key, b text);
  insert into made values (1, 'x');
  execute 'create index made_b on made (b)';
  update made set b = b || 'y';
end $$;
select creates();
select * from made;
select creates();
drop table made;
create function undone() returns text language plpgsql as $$
begin
  begin
    create table undone_t (a int);
    insert into undone_t values (1);
    raise exception 'no';
  exception when raise_exception then
    null;
  end;
  return to_regclass('undone_t') is null;
end $$;
select undone();
do $$ begin create table made2 (a int); exception when duplicate_table then raise notice 'there'; end $$;
do $$ begin create table made2 (a int); exception when duplicate_table then raise notice 'there'; end $$;
drop table made2;
select add(1, 2) from t t1, t t2 where t1.id = t2.id and add(t1.id, t2.id) = 4;
select count(*) filter (where add(id, 0) > 1) from t;
select add(1, 2) over () from t;
select add(distinct 1, 2);
select array(select add(id, 0) from t order by 1);
select (select add(max(id), 0) from t);
select case when true then 5 else div(1, 0) end;
with x as (select add(id, 1) as y from t) select sum(y) from x;
drop function over;
drop function over(int);
drop function over(text), over(numeric);
drop function over(int);
drop function if exists over(int);
drop function one, nothing;
drop function add;
drop function nosuch();
drop function creates(), undone();
