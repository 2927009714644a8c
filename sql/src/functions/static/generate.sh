#!/usr/bin/env bash
# Writes the static rows of pg_type, pg_proc, pg_operator, pg_cast and pg_aggregate as tab-separated
# text, from a PostgreSQL 15 that psql reaches by its environment (PGHOST, PGPORT, PGUSER).
set -euo pipefail
cd "$(dirname "$0")"
dump() { psql -XqAt -v ON_ERROR_STOP=1 -c "COPY ($2) TO STDOUT" >"$1.tsv"; }
dump pg_type "SELECT oid, typname, typlen, typbyval, typtype, typcategory, typispreferred, typdelim,
  typelem, typarray, typinput::oid, typoutput::oid, typreceive::oid, typsend::oid, typmodin::oid,
  typmodout::oid, typalign, typstorage, typcollation
  FROM pg_type t WHERE typnamespace = 'pg_catalog'::regnamespace AND oid < 12000 AND typtype <> 'c'
  AND NOT EXISTS (SELECT 1 FROM pg_type e WHERE e.oid = t.typelem AND e.typtype = 'c' AND e.oid <> 2249)
  ORDER BY oid"
dump pg_proc "SELECT p.oid, proname, CASE WHEN lanname = 'internal' THEN prosrc ELSE proname || '@' || p.oid END,
  lanname, prokind, proisstrict, proretset, provolatile, provariadic, pronargdefaults, prorettype,
  proargtypes, coalesce(array_to_string(proallargtypes, ' '), ''),
  coalesce(array_to_string(proargmodes, ''), ''), coalesce(array_to_string(proargnames, ' '), ''),
  coalesce(pg_get_expr(proargdefaults, 0), ''), proleakproof, proparallel, procost, prorows
  FROM pg_proc p JOIN pg_language l ON l.oid = prolang
  WHERE pronamespace = 'pg_catalog'::regnamespace AND p.oid < 12000 ORDER BY proname, p.oid"
dump information_schema "SELECT p.oid, proname, proname, lanname, prokind, proisstrict, proretset, provolatile,
  provariadic, pronargdefaults, prorettype, proargtypes, array_to_string(proallargtypes, ' '),
  array_to_string(proargmodes, ''), array_to_string(proargnames, ' '), '', proleakproof, proparallel,
  procost, prorows FROM pg_proc p JOIN pg_language l ON l.oid = prolang
  WHERE pronamespace = 'information_schema'::regnamespace AND proname = '_pg_expandarray'"
psql -XqAt -c "COPY (SELECT word, catcode, barelabel, catdesc, baredesc FROM pg_get_keywords()
  ORDER BY word COLLATE \"C\") TO STDOUT" >../../types/keywords.tsv
dump pg_operator "SELECT oid, oprname, oprkind, oprcanmerge, oprcanhash, oprleft, oprright, oprresult,
  oprcom, oprnegate, oprcode::oid, oprrest::oid, oprjoin::oid FROM pg_operator ORDER BY oprname COLLATE \"C\", oid"
dump pg_cast "SELECT oid, castsource, casttarget, castfunc, castcontext, castmethod FROM pg_cast ORDER BY oid"
dump pg_aggregate "SELECT aggfnoid::oid, aggkind, aggnumdirectargs, aggtransfn::oid, aggfinalfn::oid,
  aggtranstype, coalesce(agginitval, '') FROM pg_aggregate ORDER BY aggfnoid::oid"
