package zoo

// extensions are those of contrib that bring types. A server may lack some.
var extensions = []string{"citext", "cube", "earthdistance", "hstore", "intarray", "isn", "lo", "ltree", "seg", "xml2", "pg_trgm", "btree_gist", "bloom"}

// prepare makes the types of a schema's own.
const prepare = `
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE mood AS ENUM ('sad', 'so so', 'NULL', '');
CREATE DOMAIN price AS numeric(30,10) CHECK (VALUE > -1000000);
CREATE DOMAIN price_off AS price;
CREATE DOMAIN tags AS text[];
CREATE DOMAIN loose_text AS text COLLATE loose;
CREATE DOMAIN document AS json;
CREATE DOMAIN page AS xml;
CREATE DOMAIN letter AS "char";
CREATE DOMAIN blanks AS bpchar;
CREATE TYPE part AS (l letter, w tags, m mood[], r numrange);
CREATE TYPE pair AS (a int, b text);
CREATE TYPE deep AS (p pair, ts timestamptz, f float8, n numeric, by bytea, js json, list text[], iv interval);
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
CREATE TYPE looserange AS RANGE (subtype = text, collation = loose);
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TYPE pairrange AS RANGE (subtype = pair)`

// own are the types of prepare and prepareOf.
var own = []string{
	"mood", "price", "price_off", "tags", "loose_text", "document", "page", "letter", "blanks", "part", "pair", "deep", "textrange", "looserange", "floatrange", "pairrange", "textmultirange",
	"ci_domain", "ci_pair", "ci_range",
}

// prepareOf makes types of those of an extension.
var prepareOf = map[string]string{
	"citext": `CREATE DOMAIN ci_domain AS citext; CREATE TYPE ci_pair AS (a int, b ci_domain); CREATE TYPE ci_range AS RANGE (subtype = citext)`,
}

// values are SQL expressions of a type's edge values, by the type's name: a text is a literal of
// it, and what begins with = an expression. Neighbours differ in their bytes.
var values = map[string][]string{
	"boolean":                      {"t", "f"},
	"smallint":                     {"-32768", "0", "32767"},
	"integer":                      {"-2147483648", "0", "1", "2147483647"},
	"bigint":                       {"-9223372036854775808", "0", "9007199254740993", "9223372036854775807"},
	"numeric":                      {"0", "0.0", "1.0", "1.00", "-1", "1e-30", "12345678901234567890.1234567890", "NaN", "Infinity", "-Infinity", "=(10::numeric ^ 500)", "0.00001", "9999", "10000", "-0.0001"},
	"numeric(12,2)":                {"0", "-1.10", "NaN", "9999999999.99"},
	"real":                         {"0", "-0", "0.1", "1e-45", "3.4028235e38", "NaN", "Infinity", "-Infinity", "16777217", "1e10"},
	"double precision":             {"0", "-0", "0.1", "0.30000000000000004", "5e-324", "1.7976931348623157e308", "NaN", "Infinity", "-Infinity", "9007199254740993", "123456789012345680000"},
	"text":                         {"", " ", "a", "A", "a ", "NULL", "null", "{}", `\N`, `\.`, "é", "=(U&'e\\0301')", "🦖", "=(E'\\t\\n\\r\\b\\x01\\x7f')", `"`, `\`, "a,b", "%", "{", "=(repeat('x', 3000))"},
	`text COLLATE "loose"`:         {"a", "A", "b"},
	"character varying":            {"", "a", "a "},
	"character varying(5)":         {"", "ab   ", "ab"},
	"bpchar":                       {"", "a", "a  ", "b"},
	"character(5)":                 {"", "ab", "é"},
	"name":                         {"", "a name", `"`},
	`"char"`:                       {"", "a", `\`, "é", "=((-128)::\"char\")", "=((-56)::\"char\")", "=((-1)::\"char\")", "=(127::\"char\")"},
	"bytea":                        {`\x`, `\x00`, `\x00ff5c`, `\x61`, `\x5c78`},
	"date":                         {"2024-02-29", "0044-03-15 BC", "infinity", "-infinity", "5874897-12-31", "4713-01-01 BC", "0001-01-01"},
	"time":                         {"00:00", "24:00", "12:00:00.000001"},
	"time with time zone":          {"00:00+00", "24:00+00", "04:05:06.7-08:30", "12:00+01:02:03", "13:00+02:02:03"},
	"timestamp":                    {"2024-02-29 12:00:00.12", "0044-03-15 00:00 BC", "infinity", "-infinity", "294276-12-31 23:59:59.999999", "4713-01-01 BC", "0001-01-01"},
	"timestamp with time zone":     {"2024-02-29 12:00+02:30", "0044-03-15Z BC", "infinity", "-infinity", "294276-12-31 23:59:59.999999Z", "2024-02-29 12:00:00.000001Z"},
	"interval":                     {"0", "1 month", "30 days", "720 hours", "-1 month", "1 year -2 mons 3 days 04:05:06.7", "-00:00:00.000001", "178000000 years", "-2147483648 days", "1 mon -1 day", "=(make_interval(hours => 2147483647))", "00:00:00.1", "-1 year 1 day -00:00:00.5"},
	"uuid":                         {"00000000-0000-0000-0000-000000000000", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "ffffffff-ffff-ffff-ffff-ffffffffffff"},
	"json":                         {"null", " null ", `{"b" : 1, "b":2}`, `{"b":2}`, "1.0", "1.00", "1e2", `"\ud800"`, `"\u0000"`, "[]", " [1, 2]\n", `""`, "9007199254740993", "123456789012345678901234567890.5"},
	"jsonb":                        {"null", `"null"`, `{"b":[1.50,{"a":null}]}`, "1.0", "1.00", "[]", "{}", `""`, "9007199254740993", `{"a":null}`, `"é"`, "false"},
	"jsonpath":                     {"$", "strict $.a[*] ? (@.b > 1.50)", `$."a b" ? (@ like_regex "^x" flag "i")`, "$.a.size() + 1"},
	"xml":                          {"<a/>", `=(xmlparse(document '<?xml version="1.0"?><a/>'))`, `<a b="c">&amp;é</a>`, "text", "", `=(xmlparse(document '<?xml version="1.0" standalone="yes"?><a/>'))`},
	"inet":                         {"10.0.0.1", "10.0.0.1/8", "10.0.0.0/8", "::1", "::ffff:10.0.0.1", "0.0.0.0/0"},
	"cidr":                         {"10.0.0.0/8", "10.0.0.1/32", "::/0", "::1/128"},
	"macaddr":                      {"08:00:2b:01:02:03", "00:00:00:00:00:00"},
	"macaddr8":                     {"08:00:2b:01:02:03:04:05", "00:00:00:00:00:00:00:00"},
	"bit(3)":                       {"101", "000"},
	"bit varying":                  {"", "0", "00", "101"},
	"money":                        {"0", "-1.10", "92233720368547758.07", "1000"},
	"oid":                          {"0", "1", "4294967295"},
	"xid":                          {"0", "3", "4294967295"},
	"xid8":                         {"0", "18446744073709551615"},
	"cid":                          {"0", "4294967295"},
	"tid":                          {"(0,0)", "(4294967295,65535)"},
	"pg_lsn":                       {"0/0", "FFFFFFFF/FFFFFFFF", "1/2"},
	"int2vector":                   {"", "1", "1 -2"},
	"oidvector":                    {"", "1", "1 2"},
	"refcursor":                    {"", "c"},
	"pg_snapshot":                  {"10:20:10,14,15", "10:20:"},
	"txid_snapshot":                {"10:20:10,14,15", "10:20:"},
	"tsvector":                     {"", "a", "a:1A b:2,3C", `'it''s \\ "x"':4`, "A"},
	"tsquery":                      {"", "a & b | !c", "a <-> b:*A", "'it''s' <3> x"},
	"point":                        {"(0,0)", "(-0,0)", "(1.5,-2)", "(NaN,Infinity)", "(0.1,0.30000000000000004)"},
	"line":                         {"{1,-1,0}", "{0,1,-0.1}"},
	"lseg":                         {"[(0,0),(1,1)]", "[(1,1),(0,0)]"},
	"box":                          {"(1,1),(0,0)", "(6,6),(5,5)", "(2,0.5),(0,0)"},
	"path":                         {"((0,0),(1,1))", "[(0,0),(1,1)]", "((2,2),(3,3))"},
	"polygon":                      {"((0,0),(1,1),(1,0))", "((0,0),(1,0),(1,1))"},
	"circle":                       {"<(0,0),1>", "<(1,1),1>", "<(0,0),0>"},
	"int4range":                    {"empty", "[1,5)", "(,)", "[1,)", "(,1)"},
	"int8range":                    {"empty", "[1,5)", "(,9223372036854775807)"},
	"numrange":                     {"empty", "[1.0,2)", "[1.00,2)", "(1.0,2]", "(,)"},
	"daterange":                    {"empty", "[2024-01-01,2024-02-01)", "[2024-01-01,infinity)", "[2024-01-01,)", "[0044-03-15 BC,)"},
	"tsrange":                      {"empty", `["2024-01-01 00:00","2024-02-01 00:00:00.5")`, "(,infinity]"},
	"tstzrange":                    {"empty", `["2024-01-01 00:00Z","2024-02-01 00:00:00.5+02")`, "(,)"},
	"int4multirange":               {"{}", "{[1,5),[7,9)}", "{(,)}"},
	"int8multirange":               {"{}", "{[1,5)}"},
	"nummultirange":                {"{}", "{[1.0,2)}", "{[1.00,2)}"},
	"datemultirange":               {"{}", "{[2024-01-01,2024-02-01),[2025-01-01,)}"},
	"tsmultirange":                 {"{}", `{["2024-01-01 00:00","2024-02-01 00:00:00.5")}`},
	"tstzmultirange":               {"{}", `{["2024-01-01 00:00Z","2024-02-01 00:00:00.5+02")}`},
	"pg_node_tree":                 {},
	"aclitem":                      {},
	"regclass":                     {},
	"regtype":                      {},
	"regproc":                      {},
	"regprocedure":                 {},
	"regoper":                      {},
	"regoperator":                  {},
	"regrole":                      {},
	"regnamespace":                 {},
	"regconfig":                    {},
	"regdictionary":                {},
	"regcollation":                 {},
	"gtsvector":                    {},
	"pg_ndistinct":                 {},
	"pg_dependencies":              {},
	"pg_mcv_list":                  {},
	"pg_brin_bloom_summary":        {},
	"pg_brin_minmax_multi_summary": {},

	"mood":       {"sad", "so so", "NULL", ""},
	"price":      {"1", "12345678901234567890.0123456789"},
	"price_off":  {"-999999", "NaN"},
	"tags":       {"{}", `{"",NULL,"NULL"}`, "{{a},{b}}", "[0:0]={a}"},
	"loose_text": {"a", "A"},
	"page":       {`=(xmlparse(document '<?xml version="1.0"?><a/>'))`, "<a/>"},
	"letter":     {"", "a", "=((-56)::\"char\")"},
	"blanks":     {"a", "a  "},
	"part":       {`=(ROW((-56)::"char", ARRAY['a,b', NULL], ARRAY['', 'NULL']::mood[], '[1.0,2)')::part)`, `=(ROW('a', '{}', '{}', '[1.00,2)')::part)`},
	"document":   {"null", ` {"a": 1}`, `{"a": 1}`},
	"pair":       {"(,)", `(1,"")`, `(1,"a ""quoted"", b\\c")`, "(,NULL)", "(1,)"},
	"deep": {
		"=(ROW(ROW(1,'x,y')::pair, '2024-02-29 12:00+02', 0.1, 1.50, '\\x00ff', '{\"a\": [1, null]}', ARRAY['a',NULL,'{'], '1 mon -1 day')::deep)",
		"=(ROW(NULL, 'infinity', '-0', 1.5, '', ' null', '{}', '0')::deep)",
		"=(ROW(ROW(NULL,NULL)::pair, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::deep)",
	},
	"textrange":      {"empty", `["a b","é")`, `["",)`, "(,)"},
	"looserange":     {`[a,b)`, `[A,b)`},
	"floatrange":     {"[0,1)", "[-0,1)", "(,)"},
	"pairrange":      {`["(1,a)","(2,b)")`, "empty"},
	"textmultirange": {"{}", `{["a b","é")}`},
	"ci_domain":      {"a", "A"},
	"ci_pair":        {"(1,a)", "(1,A)", "(1,)"},
	"ci_range":       {"[a,b)", "[A,b)"},
	"citext":         {"a", "A", "a ", ""},
	"cube":           {"(0)", "(-0)", "(1,2),(3,4)", "(1,2)", "(0.1)", "(0.30000000000000004),(1)"},
	"earth":          {"(6378168,0,0)"},
	"hstore":         {"", "a=>NULL", `a=>"NULL"`, `"a b"=>"c\"d", x=>""`},
	"query_int":      {"1&2|!3", "1"},
	"ean13":          {"=(ean13('978-0-393-04002-9'))", "=('4006381333931'::ean13)"},
	"isbn":           {"=(isbn('978-0-393-04002-9'))", "=('979-10-90636-07-1'::isbn13::text::isbn)"},
	"isbn13":         {"978-0-393-04002-9", "979-10-90636-07-1", "978-0-393-04002-1!"},
	"ismn":           {"979-0-060-11561-5"},
	"ismn13":         {"979-0-060-11561-5"},
	"issn":           {"1436-4522"},
	"issn13":         {"977-1436-452-00-8"},
	"upc":            {"220356483481"},
	"lo":             {"0", "4294967295"},
	"ltree":          {"", "a.b", "A.b", "a"},
	"lquery":         {"a.*{1,2}.b@|c", "!a.*"},
	"ltxtquery":      {"a & !b*@", "x"},
	"seg":            {},
	"gbtreekey2":     {},
	"gbtreekey4":     {},
	"gbtreekey8":     {},
	"gbtreekey16":    {},
	"gbtreekey32":    {},
	"gbtreekey_var":  {},
	"ghstore":        {},
	"gtrgm":          {},
	"intbig_gkey":    {},
	"ltree_gist":     {},
}
