CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL UNIQUE, "Mixed" text);
CREATE TABLE numbers (
  i2 smallint DEFAULT 1, i4 int DEFAULT 0, neg int DEFAULT -1, i8 bigint DEFAULT 5, big bigint DEFAULT 5000000000,
  n numeric DEFAULT 0, n2 numeric(12,2) DEFAULT 1.50, f8 double precision DEFAULT 0, f4 real DEFAULT 1.5,
  b boolean DEFAULT false, t text DEFAULT 'it''s', v varchar(10) DEFAULT 'new', c char(3) DEFAULT 'ab',
  d date DEFAULT '2020-01-02', ts timestamp DEFAULT now(), tz timestamptz DEFAULT CURRENT_TIMESTAMP,
  cd date DEFAULT CURRENT_DATE, u uuid DEFAULT gen_random_uuid(), j jsonb DEFAULT '{}', js json DEFAULT '{"a": 1}'::json,
  a int[] DEFAULT '{}', ta text[] DEFAULT ARRAY['a', 'b'], iv interval DEFAULT '1 day', by bytea DEFAULT '\x00',
  nn text DEFAULT NULL, s serial, cat text DEFAULT 'a' || 'b', lo text DEFAULT lower('ABC'), sub int DEFAULT (1 + 2) * 3,
  cast_int int DEFAULT '7'::int, usr text DEFAULT CURRENT_USER, back text DEFAULT 'a\b', arr1 int[] DEFAULT ARRAY[1, 2]);
CREATE TABLE checks (
  a int CONSTRAINT positive CHECK (a > 0),
  b int CONSTRAINT between_it CHECK (b BETWEEN 1 AND 10),
  c text CONSTRAINT in_list CHECK (c IN ('x', 'y', 'z')),
  v varchar(10) CONSTRAINT v_in CHECK (v IN ('x', 'y')),
  v2 varchar(10) CONSTRAINT v_eq CHECK (v2 = 'x'),
  n numeric(12,2) CONSTRAINT n_pos CHECK (n > 0 AND n < 100),
  d date CONSTRAINT d_check CHECK (d > '2020-01-01'),
  t text CONSTRAINT t_len CHECK (length(t) <= 10 OR t IS NULL),
  l text CONSTRAINT l_like CHECK (l LIKE 'a%' AND NOT l ILIKE '%b'),
  r text CONSTRAINT r_regex CHECK (r ~ '^[a-z]+$'),
  e int CONSTRAINT e_case CHECK (CASE WHEN e > 0 THEN true ELSE false END),
  f boolean CONSTRAINT f_true CHECK (f IS NOT FALSE),
  g int CONSTRAINT g_co CHECK (COALESCE(g, 0) >= 0),
  h bigint CONSTRAINT h_big CHECK (h > 5 AND h <> ALL (ARRAY[7, 8])),
  k int CONSTRAINT k_mod CHECK (k % 2 = 0),
  m int CONSTRAINT m_dist CHECK (m IS DISTINCT FROM 3),
  j jsonb CONSTRAINT j_key CHECK (j ? 'a' AND j ->> 'a' <> ''),
  CONSTRAINT two CHECK (a < b),
  CONSTRAINT one_of CHECK ((a IS NULL) <> (b IS NULL)),
  CONSTRAINT neg CHECK (a > -5));
CREATE TABLE keys (
  a int, b int, c text, d int REFERENCES customer ON DELETE CASCADE ON UPDATE SET NULL,
  e text REFERENCES customer (name) DEFERRABLE INITIALLY DEFERRED, f int, g int,
  CONSTRAINT keys_pk PRIMARY KEY (a, b), CONSTRAINT keys_u UNIQUE (c) INCLUDE (d),
  CONSTRAINT keys_nn UNIQUE NULLS NOT DISTINCT (e), CONSTRAINT keys_self FOREIGN KEY (f, g) REFERENCES keys (a, b) MATCH FULL ON DELETE RESTRICT);
CREATE INDEX i_plain ON keys (c, d DESC);
CREATE UNIQUE INDEX i_unique ON keys (f) WHERE g > 5 AND c = 'x';
CREATE INDEX i_lower ON keys (lower(c), (a + b) DESC NULLS LAST);
CREATE INDEX i_nulls ON keys (a NULLS FIRST) INCLUDE (b);
CREATE INDEX i_pattern ON keys (c text_pattern_ops);
CREATE INDEX i_fill ON keys (g) WITH (fillfactor = 70);
CREATE TABLE generated (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c text GENERATED ALWAYS AS ('n' || a::text) STORED, first text, last text, full_name text GENERATED ALWAYS AS (first || ' ' || last) STORED);
