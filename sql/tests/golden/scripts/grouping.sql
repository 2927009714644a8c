create table s (a text, b text, v int);
insert into s values ('x', 'p', 1), ('x', 'q', 2), ('y', 'p', 3), ('y', 'q', 4), ('y', 'q', 5);
select a, b, sum(v) from s group by grouping sets ((a, b), (a), ()) order by a nulls last, b nulls last;
select a, b, sum(v), grouping(a, b) from s group by rollup (a, b) order by a nulls last, b nulls last;
select a, b, sum(v), grouping(a), grouping(b) from s group by cube (a, b) order by a nulls last, b nulls last;
select a, sum(v) from s group by grouping sets ((a), ()) having sum(v) > 3 order by 2;
select count(*) from s where false group by grouping sets ((), ());
select a, b, count(*) from s group by a, rollup (b) order by a, b nulls last;
