package badinput

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// badSettings is a settings file.
func (g *Generator) badSettings() Case {
	good := "file: " + Path("nowhere.yaml") + "\noutput: text\nlog_level: warn\nlog_format: text\nlisten: 127.0.0.1:0\n"
	key := pick(g, "file", "output", "log_level", "log_format", "listen", "listen_anywhere", "state_url", "state_url_file", "alerts_token", "alerts_token_file", "page", "flags", "flags_rate", "flags_origins", "api", "api_rate", "hosts", "tls_cert_file")
	shapes := []struct {
		name, text string
		sure       bool
	}{
		{"an unknown key", good + "outptu: json\n", true},
		{"an odd key", good + fmt.Sprintf("%q: json\n", g.odd()+"?"), true},
		{"no YAML", good + "\t}{" + g.odd(), false},
		{"a list", "[a, b]", true},
		{"a text", "hello", true},
		{"deep", strings.Repeat("[", 5000), true},
		{"a bomb", bomb(9), true},
		{"twice", "output: text\noutput: json\n", true},
		{"a mapping for a text", key + ": {a: b}\n", true},
		{"a list for a text", key + ": [a, b]\n", false},
		{"an odd text", fmt.Sprintf("%s: %q\n", key, g.odd()), false},
		{"an output", fmt.Sprintf("output: %q\n", g.odd()+"x"), true},
		{"a level", fmt.Sprintf("log_level: %q\n", g.odd()+"x"), true},
		{"a format", fmt.Sprintf("log_format: %q\n", g.odd()+"x"), true},
		{"a truth", "listen_anywhere: maybe\n", true},
		{"NULs", good + strings.Repeat("\x00", 100), true},
		{"large", good + "#" + strings.Repeat("x", 70_000), true},
		{"bytes", good + "x: \xff\xfe", true},
		{"a URL that is none", "state_url: " + Secret + "\n", true},
		{"two documents", good + "---\n" + good, false},
	}
	s := shapes[g.IntN(len(shapes))]
	c := Case{Name: s.name, Args: []string{"status"}, Files: []File{{Name: "settings.yaml", Text: s.text}}, Sure: s.sure, Env: map[string]string{"MIGRATOR_SETTINGS": Path("settings.yaml")}}
	if s.sure && s.name != "a URL that is none" {
		c.Where = "settings"
	}
	if strings.HasPrefix(s.name, "a URL") {
		c.Env["MIGRATOR_STATE_URL"] = ""
	}
	if g.IntN(2) == 0 {
		c.Env["MIGRATOR_SETTINGS"] = ""
		c.Args = []string{"--settings", Path("settings.yaml"), "status"}
	}
	return c
}

// badVariable is a variable of the environment.
func (g *Generator) badVariable() Case {
	name := pick(g, "MIGRATOR_OUTPUT", "MIGRATOR_LOG_LEVEL", "MIGRATOR_LOG_FORMAT", "MIGRATOR_LISTEN", "MIGRATOR_LISTEN_ANYWHERE", "MIGRATOR_STATE_URL",
		"MIGRATOR_STATE_URL_FILE", "MIGRATOR_SETTINGS", "MIGRATOR_FILE", "MIGRATOR_ALERTS_TOKEN", "MIGRATOR_ALERTS_TOKEN_FILE", "LEGACY_URL")
	value := strings.ReplaceAll(g.odd(), "\x00", "")
	if g.IntN(4) == 0 {
		value += "x"
	}
	c := Case{Name: fmt.Sprintf("%s=%.40q", name, value), Args: []string{"serve", Path("m.yaml")}, Env: map[string]string{
		name: value,
	}, Files: []File{{Name: "m.yaml", Text: least("${LEGACY_URL}", "redis://127.0.0.1:1/0")}}}
	if _, ok := c.Env["LEGACY_URL"]; !ok {
		c.Env["LEGACY_URL"] = "postgres://a:" + Secret + "@127.0.0.1:1/x"
	}
	if name == "MIGRATOR_FILE" {
		c.Args = []string{"config", "validate"}
	}
	if _, ok := c.Env["MIGRATOR_STATE_URL"]; !ok {
		c.Env["MIGRATOR_STATE_URL"] = "postgres://a:" + Secret + "@127.0.0.1:1/x" // serve must not begin to serve
	}
	return c
}

// least is a short migration file.
func least(legacy, target string) string {
	return fmt.Sprintf("name: loans\nlegacy: {store: postgres, url: %q, table: loans}\ntarget: {store: redis, url: %q, key: \"loan:{id}\"}\n", legacy, target)
}

// badURL is the URL of a store, of the state or of Prometheus. No host is one that would be asked.
func (g *Generator) badURL() Case {
	scheme := pick(g, "postgres", "postgres", "postgresql", "redis", "redis", "rediss", "http", "file", "", "POSTGRES", "redis+sentinel", "jdbc:postgresql", "mysql", "1", "po st")
	password := pick(g, Secret, Secret+"@", "#"+Secret, Secret+"%", "%zz"+Secret, Secret+" x", Secret+"/y", Secret+"?z", Secret+":1", "["+Secret, Secret+"\x01", Secret+"é", "%00"+Secret, "")
	host := pick(g, "127.0.0.1:1", "[::1]:1", "[::1", "::1", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:x", "127.0.0.1:", ":1", "", "127.0.0.1:1,127.0.0.1:2", "127.0.0.1:1,", "127.0.0.1%20:1", "%2Ftmp%2Fnowhere", "127.0.0.1:1:1", "[fe80::1%25lo]:1", "127.0.0.1\\:1", "127.0.0.1 :1")
	path := pick(g, "/x", "/0", "/first", "/", "", "/../x", "/%zz", "/-1", "/99999", "/x/y", "//x", "/x y", "/\x02")
	query := pick(g, "", "?color=red", "?sslmode=sideways", "?connect_timeout=x", "?db=2", "?sslmode=verify-full&sslrootcert=/nowhere", "?=&&&", "?%zz=1", "?a;b", "?dial_timeout=x", "?addr=x", "?host=/nowhere", "?port=x", "?sslcert=/dev/zero", "?user="+Secret, "?password="+Secret, "?pool_size=-1", "?"+strings.Repeat("a=b&", 16<<10), "#x", "?service=x", "?options=-c%20x", "?target_session_attrs=x", "?pool_max_conns=0", "?default_query_exec_mode=x")
	url := scheme + "://a:" + password + "@" + host + path + query
	switch g.IntN(12) {
	case 0:
		url = g.odd()
	case 1:
		url = strings.Replace(url, "://", pick(g, ":", ":/", "//", ":///", " ://"), 1)
	case 2:
		url = "host=127.0.0.1 port=1 user=a password='" + password + "' " + strings.TrimPrefix(query, "?")
	}
	url = strings.ReplaceAll(url, "\x00", "")
	quoted := fmt.Sprintf("%q", url)
	where := pick(g, "state", "state file", "legacy", "target", "legacy file", "prometheus", "webhook")
	good := [2]string{"postgres://a@127.0.0.1:1/x", "redis://127.0.0.1:1/0"}
	c := Case{Name: fmt.Sprintf("%s: %.200q", where, url), Args: []string{"plan", "-f", Path("m.yaml")}, Env: map[string]string{}}
	file := least(good[0], good[1])
	switch where {
	case "state":
		c.Env["MIGRATOR_STATE_URL"] = url
		c.Args = []string{pick(g, "status", "init", "doctor")}
	case "state file":
		c.Env["MIGRATOR_STATE_URL"], c.Env["MIGRATOR_STATE_URL_FILE"] = "", Path("state.url")
		c.Files = append(c.Files, File{Name: "state.url", Text: url})
		c.Args = []string{"status"}
	case "legacy":
		file = strings.Replace(file, fmt.Sprintf("%q", good[0]), quoted, 1)
	case "target":
		file = strings.Replace(file, fmt.Sprintf("%q", good[1]), quoted, 1)
	case "legacy file":
		file = strings.Replace(file, "url: "+fmt.Sprintf("%q", good[0]), "url_file: legacy.url", 1)
		c.Files = append(c.Files, File{Name: "legacy.url", Text: url})
	case "prometheus":
		file += "prometheus: {url: " + quoted + "}\n"
	case "webhook":
		file += "webhooks: [{url: " + quoted + "}]\n"
	}
	if where != "state" && where != "state file" {
		c.Env["MIGRATOR_STATE_URL"] = "postgres://a@127.0.0.1:1/x"
	}
	c.Files = append(c.Files, File{Name: "m.yaml", Text: file})
	return c
}

// endless are commands that would begin to run with a flag that is wrong but unused.
func endless(words []string) bool {
	return slices.Contains([]string{"serve", "worker", "drill daemon"}, strings.Join(words, " "))
}

// badFlag is a flag that does not exist, or whose value is none.
func (g *Generator) badFlag() Case {
	cmd := pick(g, g.w.Commands...)
	f := pick(g, cmd.Flags...)
	args := slices.Clone(cmd.Words)
	name, sure := "--"+f.Name, true
	switch g.IntN(4) {
	case 0: // near to a known one
		at := 2 + g.IntN(len(f.Name))
		name = name[:at] + pick(g, "x", "-", "_", "é", "\x1b", "\u202e", "=") + name[at:]
		args = append(args, name)
		sure = !strings.Contains(name, "=")
	case 1: // without its value
		args = append(args, name)
		if f.Type == "bool" || f.Type == "string" && f.Name == "help" {
			sure = false
			args[len(args)-1] += "=maybe"
		}
	default:
		value := ""
		switch f.Type {
		case "int", "int64", "uint", "float64":
			value = pick(g, "", "x", "1.5.1", "99999999999999999999999", "0x", "--", " 1", "1 ", "٣", "1e400", "one", "1,5", strings.Repeat("9", 500))
		case "duration":
			value = pick(g, "", "1", "1y", "-", "NaN", "1h-1m", "999999999h", "h", "1hour", strings.Repeat("9", 500)+"s")
		case "bool":
			value = pick(g, "", "maybe", "yes", "2", "TRUE ", "ja")
		default:
			value, sure = g.odd(), false
		}
		args = append(args, name+"="+strings.ReplaceAll(value, "\x00", ""))
	}
	c := Case{Name: fmt.Sprintf("%.200q", args), Args: args, Sure: sure}
	g.safely(&c, cmd)
	return c
}

// badArgument is a word too many, or an odd one.
func (g *Generator) badArgument() Case {
	cmd := pick(g, g.w.Commands...)
	args := slices.Clone(cmd.Words)
	for range 1 + g.IntN(4) {
		args = append(args, strings.ReplaceAll(g.odd(), "\x00", ""))
	}
	if g.IntN(8) == 0 {
		args = slices.Repeat([]string{"x"}, 3000)
	}
	c := Case{Name: fmt.Sprintf("%.200q", args), Args: args}
	g.safely(&c, cmd)
	return c
}

// safely keeps a command line that may turn out to be good from acting on anything: its state can't
// be reached, and nothing is written outside of the case's folder.
func (g *Generator) safely(c *Case, cmd Command) {
	c.Env = map[string]string{}
	if g.IntN(2) == 0 || endless(cmd.Words) || !c.Sure {
		c.Env["MIGRATOR_STATE_URL"] = "postgres://a:" + Secret + "@127.0.0.1:1/x"
	}
	c.Env["MIGRATOR_FILE"] = Path("m.yaml")
	c.Files = []File{{Name: "m.yaml", Text: least("postgres://a@127.0.0.1:1/x", "redis://127.0.0.1:1/0")}}
}

// badRunbook is a runbook: bytes, blocks and front matter that are none.
func (g *Generator) badRunbook() Case {
	name, text := one(g, g.w.Runbooks)
	how, sure := "", false
	lines := strings.Split(text, "\n")
	at := g.IntN(len(lines))
	switch g.IntN(8) {
	case 0:
		how, text, sure = "no front matter", strings.TrimPrefix(text, "---"), true
	case 1:
		how, text, sure = "an open front matter", "---\nname: x\n", true
	case 2:
		how, text, sure = "a key", strings.Replace(text, "\nname:", "\n"+strings.ReplaceAll(g.odd(), "\n", "")+"naem:", 1), true
	case 3:
		how, text, sure = "a value", text+"\n${"+g.odd()+"\n", true
	case 4:
		how, text, sure = "an id twice", text+"\n```sh {#a .action}\ntrue\n```\n\n```sh {#a .action}\ntrue\n```\n", true
	case 5:
		how, text, sure = "attributes", text+"\n```sh {#zz .action "+pick(g, "timeout=x", "timeout=-1s", "nothing=1", "retries=1e9", "pause=", "on=nowhere", "undo=nowhere", ".check", "=", "idempotent=maybe")+"}\ntrue\n```\n", true
	case 6:
		how = "a line"
		lines[at] = g.odd()
		text = strings.Join(lines, "\n")
	default:
		how = "a cut"
		text = text[:g.IntN(len(text))]
	}
	c := Case{
		Name: name + ": " + how, Args: []string{"runbook", "verify", Path("book.md")}, Files: []File{{Name: "book.md", Text: text}, {Name: "m.yaml", Text: g.w.Migration}}, Sure: sure,
		Env: map[string]string{"MIGRATOR_FILE": Path("m.yaml")},
	}
	if sure && g.w.State != "" {
		c.Where = Path("book.md") + ":"
	}
	return c
}

// badFile is something else in the place of a file that a flag, a variable or a file names.
func (g *Generator) badFile() Case {
	special := pick(g,
		File{Name: "it", Mode: fs.ModeDir}, File{Name: "it", Mode: fs.ModeNamedPipe}, File{Name: "it", Mode: fs.ModeSocket},
		File{Name: "it", Mode: fs.ModeSymlink, Text: "/dev/zero"}, File{Name: "it", Mode: fs.ModeSymlink, Text: "/dev/full"}, File{Name: "it", Mode: fs.ModeSymlink, Text: "it"},
		File{Name: "it", Mode: fs.ModeSymlink, Text: Path("nowhere")}, File{Name: "it", Mode: 0o666, Text: Secret}, File{Name: "it", Mode: 0o602, Text: Secret}, File{Name: "other"},
		File{Name: "it", Text: strings.Repeat("x", 2<<20)}, File{Name: "it", Mode: fs.ModeSymlink, Text: "/proc/self/mem"}, File{Name: "it", Mode: fs.ModeSymlink, Text: "/dev/tty"},
		File{Name: "it", Mode: fs.ModeSymlink, Text: "/proc/kcore"}, File{Name: "it", Mode: fs.ModeSymlink, Text: "/dev/random"},
	)
	c := Case{Name: fmt.Sprintf("%s, %s to %q", special.Name, special.Mode, special.Text[:min(20, len(special.Text))]), Files: []File{special}, Sure: true, Env: map[string]string{}, Where: Path("it")}
	file := least("postgres://a@127.0.0.1:1/x", "redis://127.0.0.1:1/0")
	it := Path("it")
	down := "postgres://a@127.0.0.1:1/x"
	switch place := g.IntN(13); place {
	case 0:
		c.Args = []string{"config", "validate", "-f", it}
	case 1:
		c.Args = []string{"--settings", it, "version"}
	case 2:
		c.Args = []string{"--state-url-file", it, "status"}
		c.Env["MIGRATOR_STATE_URL"] = ""
	case 3:
		c.Args = []string{"config", "validate", "-f", Path("m.yaml")}
		file = strings.Replace(file, "url: \"postgres://a@127.0.0.1:1/x\"", "url_file: it", 1)
	case 4:
		c.Args = []string{"config", "validate", "-f", Path("m.yaml")}
		file = strings.Replace(file, "url: \"redis://127.0.0.1:1/0\"", "url_file: it", 1)
	case 5:
		c.Args = []string{"serve", Path("m.yaml")}
		c.Env["MIGRATOR_ALERTS_TOKEN_FILE"] = it
	case 6:
		c.Args = []string{"drill", "import", it}
		if len(special.Text) > 1<<20 {
			c.Where = "" // it may be read; the key that it must be signed by is in the state, which is down
		}
	case 7:
		c.Args = []string{"drill", "export", "1", "--key", it, "--out", Path("out")}
	case 8:
		c.Args = []string{"serve", it}
	case 9:
		c.Args = []string{"plan"}
		c.Env["MIGRATOR_FILE"] = it
	case 10:
		c.Args = []string{"config", "validate", "-f", Path("m.yaml")}
		file += "prometheus: {url_file: it}\n"
	case 11:
		c.Args = []string{"runbook", "verify", it}
		c.Env["MIGRATOR_FILE"] = Path("m.yaml")
		file = g.w.Migration
		if g.w.State == "" {
			c.Where = ""
		}
	default:
		c.Args = []string{"status"}
		c.Env["MIGRATOR_SETTINGS"] = it
	}
	if _, set := c.Env["MIGRATOR_STATE_URL"]; !set && c.Args[0] != "runbook" {
		c.Env["MIGRATOR_STATE_URL"] = down
	}
	c.Name = fmt.Sprintf("%.60q: %s", c.Args, c.Name)
	c.Files = append(c.Files, File{Name: "m.yaml", Text: file})
	return c
}

// badDrill is a signed drill that none has signed, or that has been changed, and its key.
func (g *Generator) badDrill() Case {
	text, key, sure := g.w.Drill, g.w.Key, true
	how := ""
	switch g.IntN(7) {
	case 0:
		b := []byte(text)
		for range 1 + g.IntN(3) {
			b[g.IntN(len(b))] ^= byte(1 + g.IntN(255))
		}
		how, text, sure = "bytes", string(b), false // blanks, or the case of a key
	case 1:
		how, text = "a cut", text[:g.IntN(len(text)-2)]
	case 2:
		how, text = "a second document", text+pick(g, "{}", "[]", "x", text)
	case 3:
		how, text = "deep", `{"format": `+strings.Repeat("[", 20_000)
	case 4:
		how, key = "the key", g.odd()
	case 5:
		how, text = "an unknown key", strings.Replace(text, "{", `{"more": 1,`, 1)
	default:
		how, text = "odd", g.odd()
	}
	return Case{
		Name: how, Args: []string{"drill", "import", Path("drill.json"), "--public-key", Path("key.pub")}, Sure: sure,
		Files: []File{{Name: "drill.json", Text: text}, {Name: "key.pub", Text: key}, {Name: "m.yaml", Text: g.w.Migration}}, Env: map[string]string{"MIGRATOR_FILE": Path("m.yaml")},
	}
}

// badAlert is the body of a webhook.
func (g *Generator) badAlert() Case {
	firing := func(labels, starts string) string {
		return fmt.Sprintf(`{"status":"firing","labels":%s,"annotations":{"summary":"s"},"startsAt":%s,"fingerprint":"f%d"}`, labels, starts, g.IntN(1000))
	}
	const labels = `{"alertname":"x","severity":"page"}`
	body := func(alerts string) string { return `{"version":"4","alerts":[` + alerts + `]}` }
	now := fmt.Sprintf("%q", time.Now().UTC().Format(time.RFC3339))
	shapes := []struct {
		name, body string
		sure       bool
	}{
		{"empty", "", true},
		{"odd", g.odd(), true},
		{"deep", strings.Repeat("[", 30_000), true},
		{"deep inside", body(firing(strings.Repeat(`{"a":`, 20_000), now)), true},
		{"a text for a list", `{"version":"4","alerts":"x"}`, true},
		{"another version", strings.Replace(body(firing(labels, now)), `"4"`, fmt.Sprintf("%q", g.odd()), 1), false},
		{"another status", strings.Replace(body(firing(labels, now)), "firing", "smouldering", 1), true},
		{"no date", body(firing(labels, "null")), true},
		{"an odd date", body(firing(labels, fmt.Sprintf("%q", g.odd()))), true},
		{"a number for a date", body(firing(labels, "1e309")), true},
		{"a far date", body(firing(labels, `"9999-12-31T23:59:59Z"`)), true},
		{"an old date", body(firing(labels, `"1999-12-31T23:59:59Z"`)), false},
		{"labels that are numbers", body(firing(`{"a":1}`, now)), true},
		{"no labels", body(firing(`{}`, now)), true},
		{"odd labels", body(firing(fmt.Sprintf(`{"alertname":"x","severity":"page","l":%q}`, g.odd()), now)), false},
		{"U+0000", body(firing(`{"alertname":"\u0000","severity":"page","\u0000":"\u0000"}`, now)), false},
		{"no UTF-8", body(firing("{\"alertname\":\"\xff\",\"severity\":\"page\"}", now)), false},
		{"too long", body(firing(`{"alertname":"`+strings.Repeat("x", 1<<20)+`"}`, now)), true},
		{"many", body(strings.TrimSuffix(strings.Repeat(firing(labels, now)+",", 3000), ",")), false},
		{"a cut", body(firing(labels, now))[:20+g.IntN(60)], true},
		{"a second document", body(firing(labels, now)) + "{}", true},
	}
	s := shapes[g.IntN(len(shapes))]
	c := Case{Name: s.name, Body: s.body, Token: g.w.Token, Sure: s.sure}
	if c.Body == "" {
		c.Body = " "
	}
	if g.IntN(10) == 0 {
		c.Name, c.Sure = "without the token", true
		c.Token = pick(g, "", "x", g.w.Token+"x", g.w.Token[:len(g.w.Token)-1])
	}
	return c
}
