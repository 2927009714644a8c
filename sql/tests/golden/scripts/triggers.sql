-- Row triggers.
create table t (id int primary key, name text, n int default 5);
create table log (k serial primary key, what text);
create function logs() returns trigger language plpgsql as $$
begin
  insert into log (what) values (tg_name || ' ' || tg_when || ' ' || tg_level || ' ' || tg_op || ' ' ||
    tg_table_name || ' ' || tg_relname || ' ' || tg_nargs || ' ' || coalesce(tg_argv[0], '-') || ' ' ||
    coalesce(old::text, 'none') || ' ' || coalesce(new::text, 'none'));
  if tg_op = 'DELETE' then
    return old;
  end if;
  return new;
end $$;
create trigger a_before before insert or update or delete on t for each row execute function logs('x', 2, three);
create trigger b_after after insert or update or delete on t for each row execute procedure logs();
insert into t values (1, 'one'), (2, 'two', 2);
update t set name = upper(name), n = n + 1 where id = 1;
delete from t where id = 2;
select what from log order by k;
truncate log;
create or replace function changes() returns trigger language plpgsql as $$
begin
  new.name := coalesce(new.name, 'unnamed');
  new.n := new.n * 10;
  if new.id < 0 then
    return null;
  end if;
  return new;
end $$;
create trigger c_changes before insert or update on t for each row execute function changes();
alter table t disable trigger a_before;
alter table t disable trigger b_after;
insert into t values (3, null, 3), (-1, 'skipped', 1), (4, 'four', null) returning *;
update t set n = 1 where id = 3 returning *;
update t set id = -id where id = 4 returning *;
select * from t order by id;
create function refuses() returns trigger language plpgsql as $$
begin
  if old.name = 'four' then
    return null;
  end if;
  return old;
end $$;
create trigger d_refuses before delete on t for each row execute function refuses();
delete from t;
select * from t order by id;
drop trigger d_refuses on t;
drop trigger d_refuses on t;
drop trigger if exists d_refuses on t;
drop trigger if exists d_refuses on nothing;
drop trigger d_refuses on nothing;
create trigger w_when after update on t for each row when (old.n is distinct from new.n) execute function logs();
create trigger w_cols after update of name on t for each row execute function logs();
update t set name = 'same';
update t set n = 7, name = 'both';
select what from log order by k;
truncate log;
alter trigger w_cols on t rename to z_cols;
alter trigger nothing on t rename to z_cols;
alter trigger w_when on t rename to z_cols;
create trigger z_cols before insert on t for each row execute function logs();
create or replace trigger z_cols before insert on t for each row execute function logs();
insert into t values (9, 'nine', 9);
select what from log order by k;
truncate log;
drop trigger z_cols on t;
drop trigger w_when on t;
drop trigger c_changes on t;
insert into t values (9, 'again') on conflict do nothing;
alter table t enable trigger all;
insert into t values (9, 'again') on conflict (id) do update set name = excluded.name || t.name returning *;
insert into t values (10, 'ten') on conflict (id) do update set name = excluded.name returning *;
select what from log order by k;
truncate log;
alter table t disable trigger user;
alter table t enable trigger nothing;
create table parent (id int primary key, x int);
create table child (id int primary key, p int references parent on delete cascade on update cascade, q int references parent on delete set null);
create trigger pt after insert or update or delete on parent for each row execute function logs();
create trigger ct after insert or update or delete on child for each row execute function logs();
create trigger cb before insert or update or delete on child for each row execute function logs();
insert into parent values (1, 1), (2, 2), (3, 3);
insert into child values (1, 1, 2), (2, 1, 3), (3, 2, 2);
truncate log;
update parent set id = 10 where id = 1;
delete from parent where id = 3;
delete from parent where id = 10;
select what from log order by k;
select * from child;
truncate log;
create trigger "A_first" after delete on parent for each row execute function logs();
insert into child values (5, 2, 2);
truncate log;
delete from parent;
select what from log order by k;
truncate log;
drop table child;
drop table parent;
create function recursive() returns trigger language plpgsql as $$
begin
  if new.n > 0 then
    insert into t values (new.id + 1, 'r', new.n - 1);
  end if;
  return null;
end $$;
create trigger r_rec after insert on t for each row execute function recursive();
insert into t values (100, 'start', 4);
select id, n from t where id >= 100 order by id;
select pg_trigger_depth();
create or replace function recursive() returns trigger language plpgsql as $$
begin
  update t set n = pg_trigger_depth() where id = new.id;
  return null;
end $$;
insert into t values (200, 'depth', 4);
select id, n from t where id >= 200 order by id;
drop trigger r_rec on t;
create function self() returns trigger language plpgsql as $$
begin
  update t set n = 77 where id = old.id;
  if tg_op = 'DELETE' then return old; end if;
  return new;
end $$;
create trigger s_self before update or delete on t for each row when (pg_trigger_depth() = 0) execute function self();
update t set name = 'x' where id = 200;
delete from t where id = 200;
drop trigger s_self on t;
create function others() returns trigger language plpgsql as $$
begin
  update t set n = 55 where id = old.id + 1;
  return new;
end $$;
create trigger o_others before update on t for each row when (pg_trigger_depth() = 0) execute function others();
update t set name = 'y' where id in (100, 101);
update t set name = 'y' where id = 100;
select id, name, n from t where id in (100, 101) order by id;
drop trigger o_others on t;
create function boom() returns trigger language plpgsql as $$
begin
  raise exception 'boom % %', tg_op, coalesce(new.id, old.id) using errcode = 'check_violation', table = tg_table_name;
end $$;
create trigger boom after delete on t for each row execute function boom();
delete from t where id = 100;
do $$ begin delete from t where id = 100; exception when check_violation then raise notice '%', sqlerrm; end $$;
select count(*) from t where id = 100;
drop trigger boom on t;
create function noreturn() returns trigger language plpgsql as $$ begin null; end $$;
create trigger noreturn before insert on t for each row execute function noreturn();
insert into t values (300);
drop trigger noreturn on t;
create function badrow() returns trigger language plpgsql as $$ declare r record; begin select 1 as a into r; return r; end $$;
create trigger badrow before insert on t for each row execute function badrow();
insert into t values (300);
drop trigger badrow on t;
create function badval() returns trigger language plpgsql as $$ begin return 5; end $$;
create trigger badval before insert on t for each row execute function badval();
insert into t values (300);
drop trigger badval on t;
create function noolds() returns trigger language plpgsql as $$ begin new.name := coalesce(old.name, 'no old') || (old is null); return new; end $$;
create trigger noolds before insert on t for each row execute function noolds();
insert into t values (301) returning name;
drop trigger noolds on t;
create function badfield() returns trigger language plpgsql as $$ begin new.nothing := 1; return new; end $$;
create trigger badfield before insert on t for each row execute function badfield();
insert into t values (302);
drop trigger badfield on t;
create trigger x before insert on t for each row execute function nothing();
create function notrigger() returns int language plpgsql as $$ begin return 1; end $$;
create trigger x before insert on t for each row execute function notrigger();
create trigger x before insert on nothing for each row execute function logs();
create trigger x before update of nothing on t for each row execute function logs();
create trigger x before insert on t for each row when (old.id = 1) execute function logs();
create trigger x before delete on t for each row when (new.id = 1) execute function logs();
create trigger x before insert on t for each row when (new.nothing = 1) execute function logs();
create trigger x before insert on t for each row when (new.id) execute function logs();
create trigger x before insert on t for each row when (exists (select 1)) execute function logs();
create trigger x instead of insert on t for each row execute function logs();
create trigger a_before before insert on t for each row execute function logs();
create trigger x before insert or insert on t for each row execute function logs();
select logs();
create function args(int) returns trigger language plpgsql as $$ begin return new; end $$;
create table g (id int primary key, a int, b int generated always as (a * 2) stored, check (a < 100));
create function gens() returns trigger language plpgsql as $$ begin new.a := new.a + 1; return new; end $$;
create trigger gens before insert or update on g for each row execute function gens();
insert into g (id, a) values (1, 5) returning *;
update g set a = 10 returning *;
insert into g (id, a) values (2, 99);
alter table g rename column a to aa;
update g set aa = 11;
create or replace function gens() returns trigger language plpgsql as $$ begin new.aa := new.aa + 1; return new; end $$;
update g set aa = 11 returning *;
alter table g add column c text default 'c';
insert into g (id, aa) values (3, 1) returning *;
alter table g drop column c;
insert into g (id, aa) values (4, 1) returning *;
create trigger wg after update of aa on g for each row when (new.aa > old.aa) execute function logs();
alter table g rename column aa to a;
create or replace function gens() returns trigger language plpgsql as $$ begin new.a := new.a + 1; return new; end $$;
truncate log;
update g set a = a where id = 4;
select what from log order by k;
alter table g alter column a type bigint;
alter table g drop column b;
alter table g drop column a;
alter table g drop column a cascade;
drop function gens();
drop function gens() cascade;
create table c (id int, v text);
create trigger c_ins before insert on c for each row execute function logs('copy');
truncate log;
insert into c select g, 'v' || g from generate_series(1, 3) g;
with x as (insert into c values (7, 'cte') returning id) select * from x;
select what from log order by k;
drop table c;
drop function logs();
drop trigger b_after on t;
drop function logs() cascade;
create function seen() returns trigger language plpgsql as $$
declare c bigint;
begin
  select count(*) into c from t;
  raise notice '% % %', tg_when, tg_op, c;
  return null;
end $$;
create trigger seen after insert on t for each row execute function seen();
insert into t values (400), (401);
drop table t;
drop function seen();
create table base (id int primary key, a text, b int);
create view v as select id, a as name, b * 2 as twice from base;
create function instead() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    if new.id < 0 then return null; end if;
    insert into base values (new.id, new.name, new.twice / 2);
    new.name := new.name || '!';
    return new;
  elsif tg_op = 'UPDATE' then
    update base set id = new.id, a = new.name, b = new.twice / 2 where id = old.id;
    return new;
  else
    delete from base where id = old.id;
    return old;
  end if;
end $$;
create trigger vt instead of insert on v for each row execute function instead();
insert into v values (1, 'x', 2), (-1, 'skipped', 0), (2, 'y', 8) returning *;
create or replace trigger vt instead of insert or update or delete on v for each row execute function instead();
update v set name = name || 'z', twice = twice + 2 where id > 0 returning *;
update v set name = 'one' from base where base.id = v.id and base.id = 1 returning v.name, base.a;
select * from base order by id;
delete from v where twice > 8 returning id, name;
select * from base order by id;
create trigger vb before insert on v for each row execute function instead();
create trigger vw instead of insert on v for each row when (new.id > 0) execute function instead();
create trigger vc instead of update of name on v for each row execute function instead();
drop view v;
create table up (id int primary key, ref int references up on delete cascade deferrable initially deferred, n int);
create function upf() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    insert into up values (old.id + 100, null, 0);
    return old;
  end if;
  if exists (select 1 from up where n > 100) then raise exception 'limit'; end if;
  return new;
end $$;
create trigger upt before delete on up for each row when (old.id < 100) execute function upf();
insert into up values (1, null, 1), (2, 1, 1), (3, 2, 1);
delete from up where id = 1;
select * from up order by id;
create trigger upa after insert or update on up for each row execute function upf();
begin;
insert into up values (7, 8, 1);
insert into up values (8, 7, 101);
rollback;
begin;
savepoint a;
insert into up values (9, null, 101);
rollback to a;
insert into up values (9, null, 1);
commit;
select * from up order by id;
drop table up;
create table keep (id int primary key);
create table kept (id int primary key, k int references keep on delete cascade);
create function keepf() returns trigger language plpgsql as $$ begin insert into kept values (old.id + 10, 1); return old; end $$;
insert into keep values (1);
insert into kept values (1, 1), (2, 1);
create trigger kd after delete on kept for each row execute function keepf();
delete from keep;
select count(*) from keep, kept;
create table acc (id int primary key, v int, updated timestamptz, version int default 0);
create function stamp() returns trigger language plpgsql as $$
begin
  new.version := old.version + 1;
  new.updated := now();
  return new;
end $$;
create trigger stamp before update on acc for each row when (old.* is distinct from new.*) execute function stamp();
insert into acc (id, v) values (1, 1), (2, 2);
update acc set v = v;
update acc set v = 5 where id = 1;
select id, v, version, updated is not null from acc order by id;
create function whole() returns trigger language plpgsql as $$
declare r record; j jsonb;
begin
  r := new;
  j := to_jsonb(new);
  if new is distinct from old then
    r.v := r.v + (j ->> 'v')::int;
  end if;
  new := r;
  return new;
end $$;
create or replace trigger stamp before update on acc for each row execute function whole();
update acc set v = 7 where id = 1 returning id, v;
insert into log (what) select 'x' where false;
create function audit() returns trigger language plpgsql as $$
begin
  insert into acc_log values (new.*);
  insert into acc_log select old.*;
  return null;
end $$;
create table acc_log (id int, v int, updated timestamptz, version int);
create trigger audit after update on acc for each row execute function audit();
update acc set v = 9 where id = 2;
select id, v, version from acc_log order by v;
