#!/usr/bin/env python3
"""Writes the golden lists beside this script from a PostgreSQL 15 that psql reaches by its
environment (PGHOST, PGPORT, PGUSER; server encoding UTF8, locale C.UTF-8).

Each line: what was asked, a tab, and `=text`, `~` (NULL) or `!SQLSTATE message`.
  input.golden      type, text
  calls.golden      function OID, then `type:text` per argument
  operators.golden  operator, then `type:text` per operand
  casts.golden      from type, text, to type
"""
import itertools, os, random, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
PER_FUNCTION = int(os.environ.get("PER_FUNCTION", "8"))
PER_OPERATOR = int(os.environ.get("PER_OPERATOR", "12"))
rng = random.Random(15)

POOL = {
    "boolean": ["t", "f"],
    "smallint": ["0", "1", "-1", "7", "-32768", "32767"],
    "integer": ["0", "1", "-1", "2", "3", "5", "10", "100", "-2147483648", "2147483647"],
    "bigint": ["0", "1", "-1", "12", "1000", "-9223372036854775808", "9223372036854775807"],
    "real": ["0", "1.5", "-2.25", "1e30", "NaN", "Infinity", "-Infinity", "0.1"],
    "double precision": ["0", "-0", "1.5", "-2.25", "1e300", "1e-300", "NaN", "Infinity", "0.1",
                         "-0.5", "1", "2", "0.3", "30", "45"],
    "numeric": ["0", "0.00", "1", "-1", "2", "10", "1.5", "2.50", "-2.5", "123.456", "-123.456",
                "0.000001", "1e20", "99999999999999999999.99", "12345678901234567890123456789012345.678",
                "NaN", "Infinity", "-Infinity", "0.5", "3.14159265358979", "4", "100", "-0.75"],
    "text": ["", "abc", "ABC", "a b c", "  pad ", "Tom's \"x\" \\y", "äöü ß €", "a,b,,c", "%a_",
             "foobarbequebaz", "12345", "xyz", "b", "1.5", "0", "hello world", "day", "hour",
             "UTC", "Europe/Berlin", "base64", "hex", "YWJj", "(b..)(b..)", "[a-c]+", "g", "i"],
    "character varying": ["", "abc", "Hello"],
    "character": ["", "abc", "abc  ", "b"],
    "name": ["", "abc", "pg_class", "Zed"],
    "\"char\"": ["a", "b", ""],
    "bytea": ["\\x", "\\x00", "\\x616263", "\\xdeadbeef", "\\xff00ff"],
    "date": ["2000-01-01", "1999-12-31", "2024-02-29", "0044-03-15 BC", "infinity", "-infinity",
             "5874897-12-31", "2021-07-04"],
    "time without time zone": ["00:00:00", "04:05:06.789", "23:59:59.999999", "24:00:00", "12:00"],
    "time with time zone": ["00:00:00+00", "04:05:06.789-08", "23:59:59+05:30", "12:00+02"],
    "timestamp without time zone": ["2000-01-01 00:00:00", "1999-12-31 23:59:59.999999",
             "2024-02-29 12:34:56.789", "0044-03-15 01:02:03 BC", "infinity", "-infinity",
             "2021-01-03 10:00:00", "2005-05-13 07:30:25.575401"],
    "timestamp with time zone": ["2000-01-01 00:00:00+00", "1999-12-31 23:59:59.999999-05",
             "2024-03-10 12:34:56.789+02", "infinity", "-infinity", "2021-10-31 01:30:00+00",
             "2005-05-13 07:30:25.575401+00"],
    "interval": ["0", "1 day", "-1 day", "1 mon", "1 year 2 mons 3 days 04:05:06.789", "-00:00:01",
             "25:00:00", "40 days", "-1 mon 15 days", "1.5 hours", "100 years"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "json": ["null", "1", "\"x\"", "[1, 2, 3]", "{\"a\": 1, \"b\": {\"c\":  [1,2]}}", "{}", "[]",
             "{\"a\":null,\"a\":2}", "true", "[{\"a\":1},null,\"t\"]"],
    "jsonb": ["null", "1", "\"x\"", "[1, 2, 3]", "{\"a\": 1, \"b\": {\"c\": [1,2]}}", "{}", "[]",
              "{\"bb\":1,\"a\":2}", "true", "[{\"a\":1},null,\"t\"]", "1.50", "[\"a\",\"b\"]"],
    "pg_lsn": ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"],
    "oid": ["0", "1", "4294967295", "25"],
    "xid8": ["0", "18446744073709551615", "42"],
    "integer[]": ["{}", "{1,2,3}", "{3,NULL,1}", "{{1,2},{3,4}}", "[0:1]={5,6}", "{1}"],
    "text[]": ["{}", "{a,b}", "{a,NULL,c}", "{{a,b},{c,d}}", "{\"x y\",\"q\\\"\"}", "{0,c}"],
    "bit": ["1"], "bit varying": ["101", "", "0011"],
    "oidvector": ["", "1 2"], "int2vector": ["1 2", ""],
    "anyarray": None, "anyelement": None,
}
ANY = [("integer", "5"), ("text", "abc"), ("numeric", "1.50"), ("boolean", "t"),
       ("timestamp without time zone", "2000-01-01 00:00:00"), ("jsonb", "{\"a\": 1}"),
       ("integer[]", "{1,2}")]

INPUT = {
    "boolean": ["t", "true", "TRUE", " tr ", "y", "yes", "on", "of", "off", "o", "0", "1", "", "2", "no", "n"],
    "smallint": ["0", "-0", " 12 ", "+5", "32768", "-32768", "1.0", "", "abc", "1 2", "0x10", "99999999999999999999"],
    "integer": ["2147483647", "2147483648", "-2147483648", "  7", "--1", "1e3", "", "-", "+"],
    "bigint": ["9223372036854775807", "9223372036854775808", "-9223372036854775808", "12a"],
    "real": ["1e38", "1e39", "1e-46", "nan", "inf", "-infinity", "1.", ".5", "1e", "", " 1.5 ", "3.4028235e38", "16777217", "1e15", "123456789", "0.00001", "1.1754944e-38", "infinityx", "1e+06","1000000","100000","-0"],
    "double precision": ["1e308", "1e309", "1e-400", "NaN", "-inf", "0.1", "1.7976931348623157e308", "123456789012345678", "1e15", "1e14", "0.0001", "0.00001", "4.9e-324", "1e-323", "-0", "1_000", "0x1p3", "+.5e1", "100000000000000000000", "123456789012345.6"],
    "numeric": ["0", "-0", "00.10", "1e10", "1.5e-5", ".5", "5.", "", ".", "e5", "1e", "+1", "-1.50", " 7 ", "nan", "Inf", "-infinity", "1e131071", "1e131072", "1e-16383", "1e-16384", "1 2", "1,5", "123456789012345678901234567890.123456789", "infinit", "0x1"],
    "numeric(5,2)": ["123.456", "999.994", "999.995", "-999.995", "1000", "0.005", "NaN", "Infinity", "0.004"],
    "numeric(3,-2)": ["12345", "99950", "99949", "150", "49"], "numeric(3,5)": ["0.00123", "0.01", "0.009994"],
    "numeric(4)": ["9999.4", "9999.5"],
    "character varying(3)": ["abcd", "abc", "ab   ", "äöüß"], "character(3)": ["a", "abcd", "ab   "],
    "bytea": ["\\x", "\\xDEADbeef", "\\x0", "\\xzz", "abc", "a\\000b", "\\\\", "\\9", "\\x 12 34", "\\400", "\\377"],
    "uuid": ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc99", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "a-0eebc999c0b4ef8bb6d6bb9bd380a11", ""],
    "date": ["1999-01-08", "January 8, 1999", "1/8/1999", "1/18/1999", "01/02/03", "1999-Jan-08", "Jan-08-1999", "08-Jan-1999", "99-Jan-08", "08-Jan-99", "Jan-08-99", "19990108", "990108", "1999.008", "J2451187", "January 8, 99 BC", "epoch", "infinity", "-infinity", "2000-02-30", "2001-02-29", "1999-13-01", "", "foo", "1999", "0000-01-01", "10000-01-01", "5874898-01-01", "4714-11-23 BC", "4714-11-24 BC", "2000-01-01 12:00", "Sat Jan 01 2000", "13/13/2000", "2000-1-1", "  2000-01-01  ", "20000101T040506", "2000-001", "00-01-01", "70-01-01", "69-01-01", "Feb 29 2000", "29 Feb 2001", "2000-01-01 BC", "1.1.2000", "2000/1/1", "2000-01", "12", "julian 2451545", "2000-01-01 ad"],
    "time without time zone": ["04:05:06.789", "04:05:06", "04:05", "040506", "04:05 AM", "04:05 PM", "12:00 AM", "12:00 PM", "13:00 PM", "040506.789", "24:00:00", "24:00:01", "25:00", "04:60", "04:05:60", "04:05:61", "allballs", "04:05:06 PST", "2003-04-12 04:05:06 America/New_York", "23:59:59.9999999", "4", "", "04:05:06-08:00", "0405", "t040506", "now x"],
    "time with time zone": ["04:05:06-08:00", "04:05:06 PST", "040506+0730", "040506+07:30:00", "04:05:06+15:59", "04:05:06+16", "allballs", "04:05:06 UTC", "2003-04-12 04:05:06 America/New_York", "04:05 z", "040506-08", "04:05:06 EST5EDT"],
    "time(2) without time zone": ["04:05:06.789", "23:59:59.999"],
    "timestamp without time zone": ["1999-01-08 04:05:06", "1999-01-08 04:05:06 -8:00", "January 8 04:05:06 1999 PST", "1999-01-08T04:05:06.5Z", "19990108T040506", "19990108040506", "epoch", "infinity", "-Infinity", "294276-12-31 23:59:59.999999", "294277-01-01", "4714-11-24 00:00 BC", "4714-11-23 BC", "1999-01-08 24:00:00", "1999-01-08 24:00:01", "1999-01-08 23:59:60", "2000-01-01 00:00:00.1234567", "2000-01-01 00:00:00.0000005", "Mon Feb 10 17:32:01 1997 PST", "Feb 10 17:32:01 1997", "10-Feb-1997 5:32:01 PM", "1997.041 17:32:01", "2/10/1997 17:32", "Feb 97", "97-02-10 17:32", "1997-02-10 17:32:01+1:30:30", "1997-02-10 99:00", "2000-01-01 1", "20000101 1234", "J2451187.5", "Thu Jan 01 1970 00:00:00 GMT", "1997-02-10 17:32:01 foo", "1997-02-10 at 17:32", "", "1997-02-10 17:32:01 BC", "Feb 16 17:32:01 0097 BC", "2001-09-22T18:19:20", "12 jan 2001 10:00", "2001 jan 12 10:00"],
    "timestamp with time zone": ["1999-01-08 04:05:06-8", "1999-01-08 04:05:06+05:30", "1999-01-08 04:05:06 PST", "1999-01-08 04:05:06 PDT", "1999-07-08 04:05:06 America/New_York", "1999-01-08 04:05:06 EST5EDT", "1999-01-08 04:05:06 MSK", "2024-03-10 02:30:00 America/New_York", "2024-11-03 01:30:00 America/New_York", "1999-01-08 04:05:06 +15:59:59", "1999-01-08 04:05:06 +16", "1999-01-08 04:05:06 Foo/Bar", "infinity", "epoch", "1999-01-08 04:05:06 MET DST", "1999-01-08 04:05:06 zulu", "1999-01-08 04:05:06 UTC+3", "2050-07-01 12:00 Europe/Berlin", "2500-07-01 12:00 America/New_York", "1850-07-01 12:00 Europe/Berlin", "294276-12-31 23:59:59+00", "294276-12-31 23:59:59-01", "19990108 040506-08", "1999-01-08 040506-08"],
    "timestamp(3) without time zone": ["2000-01-01 00:00:00.1235", "1999-12-31 23:59:59.9995", "2000-01-01 00:00:00.0005", "1999-12-31 23:59:59.0005"],
    "interval": ["1 day", "1 day 2:03:04", "1-2", "1 year 2 months 3 days 4 hours 5 minutes 6 seconds", "P1Y2M3DT4H5M6S", "P0001-02-03T04:05:06", "-1 day +2:03", "1.5 days", "1.5 months", "1.5 years", "0.1 years", "1.234567891 seconds", "-0.0000005 seconds", "1 week", "1.5 weeks", "1 decade", "1 century", "1 millennium", "@ 1 minute ago", "1 day ago", "2147483647 days", "2147483648 days", "1 foo", "", "1", "1:02", "1:02:03.5", "-1:02:03", "1 day 1 day", "P1W", "PT1.5H", "P", "PT", "12h 3m", "1 mon -1 day", "178956970 years 8 mons", "178956971 years", "10 us", "5 ms", "100:00:00", "4 days 00:00:60", "+1 -2:00", "1 2:03", "1-13", "infinity", "1y 2mon", "1 year 2:3:4", "- 1 day", "P1Y2M", "P-1Y", "PT-1H2M", "P1.5Y", "1e2 days", "1 qtr", "999999999999 hours"],
    "interval year": ["1-2", "5"], "interval day to second(2)": ["1 2:03:04.567"], "interval hour": ["7", "1 day 2:30"], "interval minute to second": ["1:02", "3"], "interval month": ["14"], "interval(1)": ["1.26 seconds"],
    "json": ["{}", "[1,2", "{\"a\":1,}", "\"\\u00e9\"", "\"\\u12\"", "\"\\x\"", "tru", "01", "-", "1.", "1e", "{\"a\" 1}", "{a:1}", "[1 2]", "\"abc", "", " [ ] ", "nullx", "{\"a\":1} x", "\"\t\"", "[1,]", "{,}", "1e5", "-0", "\"\\ud83d\\ude00\"", "\"\\u0000\"", "{1:2}", "]", "[\"a\" \"b\"]", "'a'"],
    "jsonb": ["{\"b\":1,\"a\":2,\"b\":3}", "1.0", "1e5", "1E-3", "-0.00", "\"\\u0000\"", "\"\\ud83d\\ude00\"", "\"\\ud83d\"", "\"\\ude00\"", "[1, [2, {\"x\": null}]]", "{\"aa\":1,\"b\":2,\"a\":3}", "\"a\\/b\\n\\t\\\"\\u001f\"", "1e400", "[]", "tru e", "{\"a\":1", "\"\\ud83dx\"", "\"\\ud83d\\ud83d\""],
    "pg_lsn": ["0/0", "16/B374D848", "G/0", "0", "/0", "0/", "123456789/0", "ffffffff/FFFFFFFF", " 0/0"],
    "oid": ["0", "4294967295", "4294967296", "-1", "abc", "", "-2147483648", "-2147483649", " 12 "],
    "xid": ["0", "4294967295", "1x"], "tid": ["(1,2)", "(1,2", "(,)", "(4294967295,65535)"],
    "\"char\"": ["a", "ab", "", "\\101", "\\377", "ä"], "name": ["a" * 70, "é" * 40],
    "bit(3)": ["101", "10", "1011", "x5", "102"], "bit varying(3)": ["101", "1011", "", "b1", "xF"],
    "integer[]": ["{1,2,3}", "{}", "{ 1 , 2 }", "{{1,2},{3}}", "{{1,2},{3,4}}", "{1,NULL,null}", "[2:4]={1,2,3}", "[2:3]={1,2,3}", "{1,,2}", "{1", "1,2", "{1}}", "{\"1\"}", "{a}", "[1:1][1:2]={{1,2}}", "{{}}", "{1} x", "{{{{{{{1}}}}}}}", "[1]={1}", "{1,}", "{,1}"],
    "text[]": ["{a,b}", "{\"a b\",c}", "{a\\,b}", "{\"\"}", "{NULL,\"NULL\"}", "{a b}", "{ a , b }", "{\"a\"x}", "{x\"a\"}", "{\\N}", "{\"a\\\"b\"}", "{é}", "{{a},{b}}"],
    "regtype": ["int", "integer", "int4", "character varying(10)", "timestamp with time zone", "_int4", "text[]", "\"char\"", "char", "pg_catalog.text", "nosuch", "-", "23", "double precision", "bit varying", "interval"],
    "regproc": ["now", "abs", "nosuch", "pg_catalog.now", "lower"],
    "regprocedure": ["abs(int)", "abs(numeric)", "now()", "abs(foo)", "nosuch(int)"],
    "regoperator": ["+(int4,int4)", "-(none,int4)", "@@@@(int,int)"],
    "regnamespace": ["pg_catalog", "public", "nosuch"], "regclass": ["nosuch", "no.such", "0"],
}

CASTS = ["boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric", "numeric(6,2)",
         "text", "character varying(4)", "character(4)", "\"char\"", "name", "bytea", "date",
         "time without time zone", "timestamp without time zone", "timestamp with time zone", "interval",
         "uuid", "json", "jsonb", "oid", "integer[]", "text[]", "bigint[]", "bit(5)", "xid8", "regtype"]


def quote(text):
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def literal(kind, text):
    return "NULL::" + kind if text is None else f"CAST({quote(text)} AS {kind})"


def field(kind, text):
    return f"{kind}:" + ("\\N" if text is None else escape(text))


def escape(text):
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def sql(text):
    return subprocess.run(["psql", "-XqAt", "-F", "\t", "-c", text], check=True,
                          capture_output=True, text=True).stdout.splitlines()


def ask(pairs, path):
    """pairs: (line, expression). Writes line + answer."""
    seen, unique = set(), []
    for line, expression in pairs:
        if line not in seen:
            seen.add(line)
            unique.append((line, expression))
    script = ["""SET client_min_messages = error; SET timezone = 'UTC'; SET statement_timeout = '5s';
CREATE FUNCTION pg_temp.try(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; BEGIN EXECUTE q INTO r; RETURN coalesce('=' || r, '~');
EXCEPTION WHEN OTHERS THEN RETURN '!' || SQLSTATE || ' ' || SQLERRM; END $$;
\\pset format unaligned
\\pset tuples_only on
\\pset recordsep_zero on
"""]
    for _, expression in unique:
        query = f"SELECT ({expression})::text"
        script.append(f"SELECT pg_temp.try($golden${query}$golden$);\n")
    out = subprocess.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=0"], input="".join(script),
                         capture_output=True, text=True)
    answers = out.stdout.split("\0")[:-1]
    if len(answers) != len(unique):
        sys.exit(f"{path}: {len(answers)} answers for {len(unique)} questions: {out.stderr[:2000]}")
    with open(os.path.join(HERE, path), "w") as file:
        for (line, _), answer in zip(unique, answers):
            file.write(f"{line}\t{escape(answer)}\n")
    print(path, len(unique))


def inputs():
    for kind, texts in INPUT.items():
        for text in texts:
            yield f"{kind}\t{escape(text)}", f"CAST({quote(text)} AS {kind})"


def picks(kinds, count):
    """Up to `count` argument lists for these types, chosen by the seed; None without a pool."""
    if not kinds:
        return [[]]
    pools = []
    poly = rng.choice(["integer", "text"])
    for kind in kinds:
        if kind in ("anyarray", "anycompatiblearray"):
            pools.append([(poly + "[]", t) for t in POOL[poly + "[]"]])
        elif kind in ("anyelement", "anynonarray", "anycompatible", "anycompatiblenonarray"):
            pools.append([(poly, t) for t in POOL[poly]])
        elif kind == '"any"':
            pools.append(ANY)
        elif POOL.get(kind):
            pools.append([(kind, t) for t in POOL[kind]])
        else:
            return []
    total = 1
    for pool in pools:
        total *= len(pool)
    if total <= count:
        return [list(c) for c in itertools.product(*pools)]
    return [[rng.choice(pool) for pool in pools] for _ in range(count)]


SKIP = ("^(pg_|has_|lo_|ts_|binary_upgrade|current_|session_user|inet|cidr|xml|xpath|query_to|table_to|"
        "schema_to|database_to|cursor_to|version|row_security|to_reg|format_type|col_desc|obj_desc|shobj|"
        "txid|hash|currtid|brin|gin|gist|spg|satisfies|quote_all|getdatabase|acl|makeacl|age$|mxid|"
        "get_current|(now|statement_timestamp|transaction_timestamp|clock_timestamp|cbrt|dcbrt)$|timeofday|to_ascii|like_support|convert|numeric_support|regexp_.*support|setval|"
        "nextval|currval|lastval|set_config|unicode|normalize|is_normalized|generate_|amvalid|enum_)")


def calls():
    rows = sql(f"""SELECT p.oid, proname, oidvectortypes(proargtypes), provariadic NOT IN (0, 2276) FROM pg_proc p
      WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset
      AND provolatile <> 'v' AND proname !~ '{SKIP}' AND p.oid < 12000
      AND prosrc !~ '(sel|joinsel|support|typmodin|typmodout|in|out|recv|send|sortsupport|_accum|_inv|cmp|_scale|combine|serialize|finalfn|transfn|_final|transition)$'
      AND p.oid NOT IN (668, 669, 1685, 1687, 3847)
      AND NOT (2281 = ANY(proargtypes)) AND NOT (2275 = ANY(proargtypes))
      AND prorettype NOT IN (2281, 2279, 3838) ORDER BY proname, p.oid""")
    for row in rows:
        oid, name, types, variadic = row.split("\t")
        kinds = types.split(", ") if types else []
        for arguments in picks(kinds, PER_FUNCTION):
            if kinds and rng.random() < 0.03:
                at = rng.randrange(len(arguments))
                arguments[at] = (arguments[at][0], None)
            line = "\t".join([oid] + [field(k, t) for k, t in arguments])
            texts = [literal(k, t) for k, t in arguments]
            if variadic == "t":
                texts[-1] = "VARIADIC " + texts[-1]
            yield line, f"\"{name}\"(" + ", ".join(texts) + ")"


def operators():
    rows = sql("""SELECT oprname, coalesce(format_type(nullif(oprleft, 0), NULL), ''), format_type(oprright, NULL)
      FROM pg_operator WHERE oprcode::text !~ '(dcbrt|pattern|record_|xid_|^ts|cash)' ORDER BY oprname COLLATE "C", oid""")
    for row in rows:
        name, left, right = row.split("\t")
        kinds = ([left] if left else []) + [right]
        for arguments in picks(kinds, PER_OPERATOR):
            line = "\t".join([name] + [field(k, t) for k, t in arguments])
            operands = [literal(k, t) for k, t in arguments]
            expression = f"{operands[0]} OPERATOR(pg_catalog.{name}) {operands[1]}" if left \
                else f"OPERATOR(pg_catalog.{name}) {operands[0]}"
            yield line, expression


def casts():
    for source in POOL:
        if not POOL[source]:
            continue
        for target in CASTS:
            for text in POOL[source]:
                yield (f"{source}\t{escape(text)}\t{target}",
                       f"CAST({literal(source, text)} AS {target})")


DATE_FORMATS = [
    "YYYY-MM-DD HH24:MI:SS", "Day, DD  HH12:MI:SS", "FMDay, FMDD  FMHH12:MI:SS", "DAY Day day DY Dy dy MONTH Month month RM MON Mon mon",
    "FMDAY FMDay FMday FMMONTH FMMonth FMmonth FMRM", "Y,YYY YYYY YYY YY Y CC Q MM WW DDD DD D J", "FMY,YYY FMYYYY FMYYY FMYY FMY FMCC FMQ FMMM FMWW FMDDD FMDD FMD FMJ",
    "HH HH12 HH24 MI SS SSSS", "\"HH:MI:SS is\" HH:MI:SS \"\\\"text between quote marks\\\"\"", "HH24--text--MI--text--SS", "YYYYTH YYYYth Jth", "YYYY A.D. YYYY a.d. YYYY bc HH:MI:SS P.M. HH:MI:SS p.m. HH:MI:SS pm",
    "IYYY IYY IY I IW IDDD ID", "FMIYYY FMIYY FMIY FMI FMIW FMIDDD FMID", "MS US FF1 FF2 FF3 FF4 FF5 FF6", "TZ tz OF TZH:TZM", "rm W AM am", "DDth Mon", "T-\\\"x", "ssss hh24 yyyy", "Q th YYYYth"]
NUM_FORMATS = ["9G999G999", "9G999G999D999G999", "9999999999999999.999999999999999PR", "9999999999999999.999999999999999S", "S9999999999999999.999999999999999MI",
    "MI9999999999999999.999999999999999", "FM9999999999999999.999999999999999THPR", "SG9999999999999999.999999999999999th", "0999999999999999.999999999999999", "S0999999999999999.999999999999999",
    "FM0999999999999999.999999999999999", "FM9999999999999990.999999999999999", "FM9999990999999999.999999999999999", "FM9999999999999999.099999999999999", "L9999999999999999.099999999999999",
    "9 9 9 9 . 9 9", "FM9.9", "9.9", "99", "000", "S999", "999S", "999PR", "RN", "FMRN", "rn", "99V99", "9.99EEEE", "0.9", ".99", "FM.99", "999th", "FM999TH", "99,99,9.0", "9", "FM999.0", "$999.99", "MI99", "99MI", "PL99", "99PL", "SG9", "9SG", "B99", "L99", "FM90.99", "\"txt\"9", "999.", "FM9999.9999", "0000.00", "S99.9", "99.9S", "9EEEE", ",9,9"]
NUMBERS = ["0", "1", "-1", "0.5", "-0.5", "12", "-12.34", "1234567.891", "485", "0.001", "-999.9", "NaN", "100", "3999", "4000", "99.99", "1e10"]
PARSE_DATE = [("2000-01-02", "YYYY-MM-DD"), ("05 Dec 2000", "DD Mon YYYY"), ("20001231", "YYYYMMDD"), ("2000    JUN", "YYYY MON"), ("0097/Feb/16 --> 08:14:30", "YYYY/Mon/DD --> HH:MI:SS"),
    ("97/2/16 8:14:30", "FMYYYY/FMMM/FMDD FMHH:FMMI:FMSS"), ("2011$03!18 23_38_15", "YYYY-MM-DD HH24:MI:SS"), ("1985 January 12", "YYYY FMMonth DD"), ("1997 AD 11 16", "YYYY BC MM DD"), ("1997 BC 11 16", "YYYY BC MM DD"),
    ("9-1116", "Y-MMDD"), ("95-1116", "YY-MMDD"), ("995-1116", "YYY-MMDD"), ("2005426", "YYYYWWD"), ("2005300", "YYYYDDD"), ("2005527", "IYYYIWID"), ("005527", "IYYIWID"), ("2005300", "IYYYIDDD"),
    ("2000-13-01", "YYYY-MM-DD"), ("2001-02-29", "YYYY-MM-DD"), ("", "YYYY"), ("2000 01 02", "YYYYMMDD"), ("12:34 PM", "HH:MI AM"), ("13:34 PM", "HH:MI AM"), ("2018-11-02 12:34:56.025", "YYYY-MM-DD HH24:MI:SS.MS"), ("2018-11-02 12:34:56.1234", "YYYY-MM-DD HH24:MI:SS.US"),
    ("2011-12-18 11:38 +05:20", "YYYY-MM-DD HH12:MI TZH:TZM"), ("2011-12-18 11:38 -05", "YYYY-MM-DD HH12:MI TZH"), ("2000-06-06 x", "YYYY-MM-DD"), ("abc", "YYYY"), ("2000-1", "YYYY-MM"), ("1", "J"), ("2451545", "J"), ("Monday 5", "Day DD"), ("IV 2000", "RM YYYY"), ("2,001 05", "Y,YYY MM"),
    ("44 20", "YY CC"), ("2000-Foo", "YYYY-Mon"), ("10 20", "HH24 HH24"), ("1999 TZ", "YYYY TZ"), ("20 1 5", "CC MM DD"), ("2020 3 W", "YYYY W"), ("150 2003", "DDD YYYY"), ("86399", "SSSS"), ("2000-01-01 25:00", "YYYY-MM-DD HH24:MI"), ("2005 52 2005", "IYYY IW YYYY"), ("  2000   01 ", "YYYY MM"), ("2nd 2000", "DDth YYYY")]
PARSE_NUMBER = [("12,454.8-", "99G999D9S"), ("-34,338,492", "99G999G999"), ("-34,338,492.654,878", "99G999G999D999G999"), ("<564646.654564>", "999999.999999PR"), ("0.00001-", "9.999999S"), ("5.01-", "FM9.999999S"), ("5 4 4 4 4 8 . 7 8", "9 9 9 9 9 9 . 9 9"), (".01", "FM9.99"), (".0", "99999999.99999999"), ("0", "99.99"), (".-01", "S99.99"), (".01-", "99.99S"), ("123456", "999G999"), ("$1234.56", "L9,999.99"), ("42nd", "99th"), ("abc", "999"), ("", "999"), ("12", "9"), ("123.456", "999.99"), ("1234", "99V99"), ("+12", "S99"), ("-5", "MI9"), (" 12 ", "999")]


PATHS = ["$", "$.a", "$.*", "$[*]", "$.a[0]", "$.b.c[*]", "strict $.a", "strict $.x", "$.**", "$.**{1}", "$.**{1 to 2}", "$.**{last}", "$[0 to 1]", "$[last]", "$[last - 1]",
    "$.a ? (@ > 1)", "$[*] ? (@ > 1)", "$[*] ? (@ >= 2 && @ < 3)", "$.b ? (exists(@.c))", "$.a == 1", "$[*] > 2", "1 + 2 * 3", "(1 + 2) * 3", "-$.a", "$.a + 1", "$.type()", "$[*].type()", "$.size()", "$.b.c.size()",
    "$[*].a", "$.keyvalue().key", "$.a.double()", "$.a.abs()", "$[*] ? (@ starts with \"t\")", "$ ? (@ like_regex \"^x\")", "$ ? (@ like_regex \"^X\" flag \"i\")", "!($.a == 1)", "($.a == 1) is unknown",
    "$x", "$[10]", "strict $[10]", "$.a / 0", "$.\"a b\"", "lax $.b.*", "$.a.floor()", "$[*] ? (@.a == 1).a", "$ ? (@.a == 1 || @.bb == 1)", "true", "null", "\"s\"", "$.a ? (@ == \"x\")", "$[0, 2]", "$.a.size()", "strict $.a.size()", "$[*] % 2", "+$.a", "$.b.c[1 to last]", "@", "last", "$.", "", "$ ?", "$[", "1.5e3", "$.a.b.c", "$.a >", "$a.b", "(1).type()", "$.ceiling()", "not_a_path", "$ ? (@ <> null)"]


def paths():
    for path in PATHS:
        yield f"jsonpath\t{escape(path)}", f"CAST({quote(path)} AS jsonpath)"


def path_calls():
    for path in PATHS:
        for value in POOL["jsonb"]:
            for operator in ["@?", "@@"]:
                yield (f"{operator}\t{field('jsonb', value)}\t{field('jsonpath', path)}",
                       f"{literal('jsonb', value)} {operator} {literal('jsonpath', path)}")


def path_queries():
    for path in PATHS:
        for value in POOL["jsonb"]:
            yield from one("4007", "jsonb_path_query_array", [("jsonb", value), ("jsonpath", path), ("jsonb", "{\"x\": 7}"), ("boolean", "f")])


def formats():
    stamp = ["2002-04-20 17:30:00.123456", "1997-06-10 02:03:04", "0001-01-01 00:00:00 BC", "0044-03-15 12:00:00 BC", "2005-01-01 23:59:59.999", "12345-12-31 05:06:07"]
    for pattern in DATE_FORMATS:
        for value in stamp:
            yield from one("2049", "to_char", [("timestamp without time zone", value), ("text", pattern)])
            yield from one("1770", "to_char", [("timestamp with time zone", value), ("text", pattern)])
        for value in ["1 year 2 mons 3 days 04:05:06.789", "-1 days -02:03:00", "30:00:00", "0"]:
            yield from one("1768", "to_char", [("interval", value), ("text", pattern)])
    for pattern in NUM_FORMATS:
        for value in NUMBERS:
            yield from one("1772", "to_char", [("numeric", value), ("text", pattern)])
            if value != "1e10":
                yield from one("1776", "to_char", [("double precision", value), ("text", pattern)])
            if "." not in value and value[-1].isdigit() and value != "1e10":
                yield from one("1773", "to_char", [("integer", value), ("text", pattern)])
                yield from one("1774", "to_char", [("bigint", value), ("text", pattern)])
    for text, pattern in PARSE_DATE:
        yield from one("1780", "to_date", [("text", text), ("text", pattern)])
        yield from one("1778", "to_timestamp", [("text", text), ("text", pattern)])
    for text, pattern in PARSE_NUMBER:
        yield from one("1777", "to_number", [("text", text), ("text", pattern)])


def one(oid, name, arguments):
    line = "\t".join([oid] + [field(k, t) for k, t in arguments])
    yield line, f"{name}(" + ", ".join(literal(k, t) for k, t in arguments) + ")"


if __name__ == "__main__":
    ask(itertools.chain(formats(), path_queries()), "formats.golden")
    ask(itertools.chain(inputs(), paths()), "input.golden")
    ask(casts(), "casts.golden")
    ask(itertools.chain(operators(), path_calls()), "operators.golden")
    ask(calls(), "calls.golden")
